"""Holds that the cluster of the tests is a SLURM as one meets it, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.slurm.cluster import MAX_ARRAY_SIZE, NODES, Cluster, ClusterError, running

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def job_free(cluster: Cluster) -> Iterator[None]:
    """What one test left running must not hold the next one's nodes."""
    yield
    cluster.run("scancel", "--me")


def submit(cluster: Cluster, script: str, *options: str, output: Path | str = os.devnull) -> str:
    """Returns the id of a job that runs the shell script."""
    return cluster.run("sbatch", "--parsable", f"--output={output}", *options, f"--wrap={script}").stdout.strip()


def wait_for_lines(file: Path, count: int, timeout: float = 60) -> list[str]:
    deadline = time.monotonic() + timeout
    while not file.exists() or len(file.read_text().splitlines()) < count:
        assert time.monotonic() < deadline, f"{file.name} has fewer than {count} lines after {timeout} s"
        time.sleep(0.05)
    return file.read_text().splitlines()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_one_job_runs_on_four_nodes_that_tell_who_they_are(cluster: Cluster, tmp_path: Path) -> None:
    job = submit(cluster, "srun sh -c 'echo $SLURMD_NODENAME'", "--nodes=4", output=tmp_path / "log")
    cluster.wait_for(job, "COMPLETED")
    assert sorted((tmp_path / "log").read_text().split()) == list(NODES)


def test_jobs_on_one_node_get_different_gpus(cluster: Cluster, tmp_path: Path) -> None:
    script = f"echo $CUDA_VISIBLE_DEVICES >> {tmp_path}/gpus; sleep 60"
    for _ in range(2):
        submit(cluster, script, "--nodelist=n1", "--gpus-per-node=4")
    third = submit(cluster, script, "--nodelist=n1", "--gpus-per-node=1")
    assert sorted(wait_for_lines(tmp_path / "gpus", 2)) == ["0,1,2,3", "4,5,6,7"]
    assert cluster.states(third) == ["PENDING"]


def test_an_array_past_the_limit_is_refused(cluster: Cluster) -> None:
    last = MAX_ARRAY_SIZE - 1
    job = submit(cluster, "true", f"--array={last - 2}-{last}%2")
    assert cluster.wait_for(job, "COMPLETED") == ["COMPLETED"] * 3
    with pytest.raises(ClusterError, match="Invalid job array specification"):
        submit(cluster, "true", f"--array=0-{last + 1}")


def test_a_requeued_job_runs_again_under_its_id(cluster: Cluster, tmp_path: Path) -> None:
    script = f"""echo "$SLURM_JOB_ID ${{SLURM_RESTART_COUNT:-0}}" >> {tmp_path}/runs
        test -n "$SLURM_RESTART_COUNT" || {{ scontrol requeue "$SLURM_JOB_ID"; exec sleep 600; }}
        echo end >> {tmp_path}/runs"""
    job = submit(cluster, script)
    assert wait_for_lines(tmp_path / "runs", 3) == [f"{job} 0", f"{job} 1", "end"]
    assert cluster.wait_for(job, "COMPLETED") == ["COMPLETED"]


def test_an_urgent_job_sends_another_back_to_the_queue(cluster: Cluster, tmp_path: Path) -> None:
    script = f"trap 'echo TERM >> {tmp_path}/log; exit 1' TERM; echo start >> {tmp_path}/log; sleep 60 & wait"
    victim = submit(cluster, script, "--nodelist=n2", "--exclusive")
    wait_for_lines(tmp_path / "log", 1)
    urgent = submit(cluster, "sleep 1", "--nodelist=n2", "--exclusive", "--partition=urgent")
    cluster.wait_for(urgent, "COMPLETED")
    assert cluster.states(victim) == ["PENDING"]
    assert wait_for_lines(tmp_path / "log", 3) == ["start", "TERM", "start"]


def test_jobs_outlive_their_controller(cluster: Cluster, tmp_path: Path) -> None:
    job = submit(cluster, f"echo start >> {tmp_path}/log; sleep 3; echo end >> {tmp_path}/log")
    wait_for_lines(tmp_path / "log", 1)
    cluster.stop_controller()
    try:
        asked = cluster.run("scontrol", "ping", check=False)
    finally:
        cluster.start_controller()
    assert asked.returncode == 1
    cluster.wait_for(job, "COMPLETED")
    assert (tmp_path / "log").read_text().split() == ["start", "end"]


def test_jobs_outlive_the_daemon_of_their_node(cluster: Cluster, tmp_path: Path) -> None:
    job = submit(cluster, f"echo start >> {tmp_path}/log; sleep 2; echo end >> {tmp_path}/log", "--nodelist=n3")
    wait_for_lines(tmp_path / "log", 1)
    pid = cluster.kill_slurmd("n3")
    gone = not is_alive(pid)
    cluster.start_slurmd("n3")
    assert gone
    cluster.wait_for(job, "COMPLETED")
    assert (tmp_path / "log").read_text().split() == ["start", "end"]


def test_a_node_that_goes_down_gives_its_jobs_back(cluster: Cluster, tmp_path: Path) -> None:
    script = "echo $SLURM_JOB_ID $SLURMD_NODENAME >> log; sleep 60"
    placed = ["--nodelist=n4", f"--chdir={tmp_path}"]
    kept = submit(cluster, script, "--requeue", *placed)
    lost = submit(cluster, script, "--no-requeue", *placed)
    wait_for_lines(tmp_path / "log", 2)
    cluster.down("n4")
    try:
        assert cluster.wait_for(lost, "NODE_FAIL") == ["NODE_FAIL"]
        assert cluster.wait_for(kept, "PENDING") == ["PENDING"]
        assert cluster.node_states()["n4"] == "down"
    finally:
        cluster.resume("n4")
    assert wait_for_lines(tmp_path / "log", 3)[2] == f"{kept} n4"


def test_a_draining_node_finishes_what_it_runs(cluster: Cluster, tmp_path: Path) -> None:
    running_job = submit(cluster, f"echo start >> {tmp_path}/log; sleep 1", "--nodelist=n1")
    wait_for_lines(tmp_path / "log", 1)
    cluster.drain("n1")
    try:
        waiting_job = submit(cluster, "true", "--nodelist=n1")
        cluster.wait_for(running_job, "COMPLETED")
        assert cluster.states(waiting_job) == ["PENDING"]
    finally:
        cluster.resume("n1")
    cluster.wait_for(waiting_job, "COMPLETED")


def test_two_clusters_live_side_by_side(cluster: Cluster) -> None:
    with running() as other:
        job = submit(other, "true", "--nodes=4")
        other.wait_for(job, "COMPLETED")
        assert set(range(other.port, other.port + 5)).isdisjoint(range(cluster.port, cluster.port + 5))
    assert not other.directory.exists()
    assert set(cluster.node_states()) == set(NODES)


SESSION = """
import sys, time
from tests.slurm.cluster import running
with running() as cluster:
    script = f"setsid sleep 600 & echo $$ $! > {sys.argv[1]}; wait"
    cluster.run("sbatch", "--output=/dev/null", f"--wrap={script}")
    print(cluster.directory, flush=True)
    time.sleep(600)
"""


def test_a_killed_session_leaves_no_process_and_no_file(cluster: Cluster, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = [sys.executable, "-c", SESSION, str(pids)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout
        directory = Path(session.stdout.readline().strip())
        left = [int(pid) for pid in wait_for_lines(pids, 1)[0].split()]
        assert all(is_alive(pid) for pid in left)
        session.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not directory.exists()
    assert not any(is_alive(pid) for pid in left)
