"""Sixteen who want one conversion on two nodes of a real SLURM get one, also when whoever converts is killed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults.conversions import Site, payload, shim, write_checkpoint
from tests.faults.test_conversion_at_once import STOPS, stopped
from tests.runs import ENTRY, claims, environment, start, wait_until
from tests.slurm.cluster import Cluster

from holdfast.core import generations

pytestmark = [pytest.mark.train, pytest.mark.slow]
TASKS = 16
APART = subprocess.run(["unshare", "--uts", "true"], capture_output=True).returncode == 0
"""Whether two nodes of this machine can be made two hosts: each in a namespace with a name of its own."""
SAVED = "slurm: {poll_seconds: 0.5, heartbeat: 0.2, silence: 3}\n"


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def wanted(step: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    site = Site(tmp_path_factory.mktemp("undisturbed") / "root", step)
    site.type("--executor", "local")
    return payload(site.home)


@pytest.fixture
def site(step: Path, tmp_path: Path) -> Site:
    (tmp_path / "holdfast.yaml").write_text(SAVED)
    return Site(tmp_path / "root", step)


def write_command(site: Site) -> Path:
    """The command as one types it on a node, which is a host of its own where that can be had."""
    place = site.root.parent
    command = shlex.join([sys.executable, "-c", ENTRY, "--root", str(site.root), "convert", str(site.step)])
    own_name = 'if [ "$1" != named ]; then exec unshare --uts sh "$0" named; fi; hostname "$SLURMD_NODENAME"'
    script = place / "convert.sh"
    name = "$SLURM_JOB_ID-$SLURM_PROCID"
    script.write_text(
        f"#!/bin/sh\n{own_name if APART else ':'}\ncd {shlex.quote(str(place))}\n"
        f"{command} > said-{name} 2> told-{name}\necho $? > code-{name}\n"
    )
    script.chmod(0o755)
    return script


def collect(site: Site, count: int = TASKS) -> None:
    """Everybody got it: exit code 0, and the path."""
    place = site.root.parent
    wait_until(lambda: len([path for path in place.glob("code-*") if path.read_text()]) == count, 120)
    told = {path.name: path.read_text() for path in place.glob("told-*")}
    assert {path.read_text().strip() for path in place.glob("code-*")} == {"0"}, told
    assert [said for path in place.glob("said-*") if (said := path.read_text().strip())] == [str(site.home)] * count


def submit(site: Site, cluster: Cluster, *arguments: str, **variables: str) -> str:
    others = {**environment(**variables), **cluster.environment}
    command = ["sbatch", "--parsable", "--output=/dev/null", *arguments]
    return subprocess.run(command, env=others, check=True, capture_output=True, text=True).stdout.strip()


def on_two_nodes(site: Site, cluster: Cluster, **variables: str) -> str:
    """One allocation, eight tasks on each of its nodes."""
    wrapped = f"--wrap=srun --overlap {write_command(site)}"
    where = ["--nodelist=n1,n2", "--nodes=2", f"--ntasks={TASKS}", f"--ntasks-per-node={TASKS // 2}"]
    return submit(site, cluster, *where, wrapped, **variables)


def crash_variables(site: Site) -> dict[str, str]:
    return shim(site.root, CRASH_ONCE=str(site.root.parent / "once"), **STOPS)


def test_sixteen_tasks_on_two_nodes_want_one_conversion_and_get_it(
    site: Site, cluster: Cluster, wanted: dict[str, str]
) -> None:
    job = on_two_nodes(site, cluster)
    collect(site)
    cluster.wait_for(job, "COMPLETED")
    site.check(wanted)
    assert site.outcomes() == ["complete"]
    assert len(generations.directories(site.home)) == 1


@pytest.mark.skipif(not APART, reason="two hosts on one machine need the right to make namespaces")
def test_converter_killed_on_one_node_is_replaced_when_the_other_has_heard_nothing_of_it(
    site: Site, cluster: Cluster, wanted: dict[str, str]
) -> None:
    """All who could prove its death die with it: those on the other node have its silence alone."""
    on_two_nodes(site, cluster, **crash_variables(site))
    claim, _ = stopped(site)
    here, there = claim.owner.host, {"n1": "n2", "n2": "n1"}[claim.owner.host]
    reason = f"runs on {here}, which cannot be seen from here"
    told = site.root.parent.glob
    wait_until(lambda: sum(reason in path.read_text() for path in told("told-*")) == TASKS // 2, 120)
    for pid in everybody_on(here):
        os.kill(pid, signal.SIGKILL)
    collect(site, TASKS // 2)
    site.check(wanted)
    assert site.outcomes()[0] == "silent" and site.outcomes()[-1] == "complete"
    assert claims(site.root, site.home.name)[-1].owner.host == there
    assert len(generations.directories(site.home)) == 1


def everybody_on(node: str) -> list[int]:
    """Those who convert and those who wait on a node, and the shells that would say how they ended; not the srun that
    started them.
    """
    found = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    of_task = (f"SLURMD_NODENAME={node}\0", "SLURM_STEP_NODELIST=", "CRASH_ROOT=")
    return [pid for pid in found if all(each in read(Path(f"/proc/{pid}/environ")) for each in of_task)]


def read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def test_sixteen_jobs_that_each_convert_first_share_one_conversion(
    site: Site, cluster: Cluster, wanted: dict[str, str]
) -> None:
    script = write_command(site)
    for node in ("n3", "n4"):
        submit(site, cluster, f"--array=1-{TASKS // 2}", f"--nodelist={node}", f"--wrap=SLURM_PROCID=0 {script}")
    collect(site)
    site.check(wanted)
    assert site.outcomes() == ["complete"]


def test_sixteen_who_type_it_on_the_login_node_submit_one_job_and_its_killed_supervisor_is_replaced(
    site: Site, cluster: Cluster, wanted: dict[str, str]
) -> None:
    setup = [f"export {name}={shlex.quote(value)}" for name, value in crash_variables(site).items()]
    flags = [word for line in setup for word in ("--setup", line)]
    typed = ("convert", str(site.step), "--executor", "slurm", *flags)
    people = [start(site.root, *typed, **cluster.environment) for _ in range(TASKS)]
    claim, _ = stopped(site)
    assert len(list(site.root.glob(".holdfast/jobs/*/slurm.json"))) == 1
    os.kill(claim.owner.pid, signal.SIGKILL)
    told = [person.communicate(timeout=240) for person in people]
    assert [person.returncode for person in people] == [0] * TASKS, told
    assert {said.strip() for said, _ in told} == {str(site.home)}
    assert site.outcomes()[0] == "died" and site.outcomes()[-1] == "complete"
    site.check(wanted)
