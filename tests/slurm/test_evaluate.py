"""`holdfast evaluate` on a real SLURM: the conversion is a job of its own, and no evaluation starts before it is done.

The cluster's GPUs are pretend ones, so where a command runs its engine is the shipped fake, which solves the sums of
the stand-in data. Its nodes have no container runtime: what a container would be given is read off rendered scripts.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from tests.evaluations import COMMANDS, DCP, Command, Desk, Materials
from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.train
FAKE = ("--executor", "slurm", "--container", "none", "--engine", "fake")
# Notes what it was given, and runs it on this node.
STAND_IN = """#!/bin/sh
{{ printf '%s\\n' "$@"; printf '\\0'; }} >> {directory}/steps
while [ "${{1#--}}" != "$1" ]; do shift; done
exec "$@"
"""
STEP = "results/grpo/step_170/policy/weights"


@pytest.fixture
def desk(tmp_path: Path, materials: Materials, cluster: Cluster) -> Desk:
    return Desk(tmp_path, materials, more=cluster.environment)


def scripts_of(desk: Desk, line: str, *more: str) -> list[str]:
    """The scripts of a dry run, in the order in which they would be given to sbatch."""
    said = desk.type(f"evaluate --dry {line}", "--executor", "slurm", *more).stdout
    return said.split("# given to sbatch\n")[1:]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.name)
def test_command_of_the_document_renders_scripts_with_all_that_it_says(
    command: Command, tmp_path: Path, materials: Materials
) -> None:
    """Eight GPUs by default, two hours, the partition `batch`, account and container from the environment."""
    desk = Desk(tmp_path, materials, any_ranks=True)
    scripts = scripts_of(desk, command.line, "--container", "rl.sqsh")
    *before, script = scripts
    typed = shlex.split(command.line)
    wanted = ["--account=team", "--partition=batch", "--gpus-per-node=8", "--requeue"]
    wanted += [f"--nodes={typed[typed.index('--nodes') + 1] if '--nodes' in typed else 1}"]
    wanted += [f"--time={typed[typed.index('--time') + 1] if '--time' in typed else '2:0:0'}"]
    wanted += [f"--array=0-{command.points - 1}"] if command.points > 1 else []
    for option in wanted:
        assert f"#SBATCH {option}\n" in script
    assert len(before) == ("--dcp-ckpt-path" in command.line)
    for conversion in before:
        assert "--gpus-per-node" not in conversion and "#SBATCH --nodes=1\n" in conversion
    assert not desk.root.exists()


def test_container_and_mounts_are_what_the_engine_starts_in(desk: Desk) -> None:
    """`$CON/NAME`, and the mounts with the root added: read off a stand-in for `srun`."""
    (desk.directory / "bin").mkdir()
    (desk.directory / "bin" / "srun").write_text(STAND_IN.format(directory=desk.directory))
    (desk.directory / "bin" / "srun").chmod(0o755)
    (desk.directory / "holdfast.yaml").write_text(f"slurm: {{setup: ['export PATH={desk.directory}/bin:$PATH']}}\n")
    flags = ["--executor", "slurm", "--engine", "fake", "--container", "rl.sqsh", "--mounts", "/data:/data", "--wait"]
    desk.type("evaluate generation.model_name=model_path", *flags)
    steps = [each.split("\n") for each in (desk.directory / "steps").read_text().split("\0") if each]
    (engine,) = [each for each in steps if "holdfast.engines.fake" in each]
    assert f"--container-image={desk.directory}/images/rl.sqsh" in engine
    (mounts,) = [each for each in engine if each.startswith("--container-mounts=")]
    assert mounts.partition("=")[2].split(",")[0] == "/data:/data" and f"{desk.root}:{desk.root}" in mounts
    assert desk.accuracy("evals/eval") == 1.0


def jobs_of(desk: Desk, cluster: Cluster) -> list[dict[str, str]]:
    """What SLURM says of each job of the newest submission, as `scontrol show job` has it."""
    found = json.loads((desk.jobs()[-1] / "slurm.json").read_text())["ids"]
    lines = [
        cluster.run("scontrol", "--oneliner", "show", "job", each).stdout.splitlines()[0] for each in found.values()
    ]
    return [dict(part.split("=", 1) for part in line.split() if "=" in part) for line in lines]


def test_conversion_is_a_job_without_gpus_and_the_evaluation_comes_after_it(cluster: Cluster, desk: Desk) -> None:
    flags = ["--gpus", "8", "--time", "0:30:0", "--account", "mine", "--partition", "batch", "--wait"]
    desk.type(f"evaluate {DCP}", *FAKE, *flags)
    conversion, evaluation = jobs_of(desk, cluster)
    assert "TresPerNode" not in conversion and evaluation["TresPerNode"] == "gres:gpu:8"
    assert evaluation["StartTime"] >= conversion["EndTime"]
    for job in (conversion, evaluation):
        assert (job["Account"], job["Partition"], job["TimeLimit"]) == ("mine", "batch", "00:30:00")
    assert desk.accuracy("evals/eval") == 1.0

    (made,) = desk.converted()
    before = made.resolve()
    told = desk.type(f"evaluate {DCP} --jobname again eval.seed=7", *FAKE, "--wait").stderr
    assert "takes 1 of 2 stages; 1 complete already" in told
    assert len(jobs_of(desk, cluster)) == 1 and desk.converted() == [made] and made.resolve() == before


def test_sweep_is_one_array_behind_one_conversion(cluster: Cluster, desk: Desk) -> None:
    line = next(each.line for each in COMMANDS if each.name == "example 3")
    desk.type(f"evaluate {line}", *FAKE, "--wait")
    conversion, array = jobs_of(desk, cluster)
    assert "ArrayJobId" not in conversion and "ArrayJobId" in array
    found = desk.standings()
    assert [each["state"] for each in found] == ["complete"] * 5
    homes = [each["home"] for each in found if each["kind"] == "evaluate"]
    assert [desk.accuracy(home) for home in homes] == [1.0] * 4
    assert {len(desk.rows(home)) for home in homes} == {32}


def test_two_nodes_have_an_engine_each(cluster: Cluster, desk: Desk) -> None:
    """The document's multi-node command, with the shipped engine in place of vLLM."""
    line = next(each.line for each in COMMANDS if each.name == "multi-node")
    desk.type(f"evaluate {line}", *FAKE, "--wait")
    (job,) = jobs_of(desk, cluster)
    assert job["NumNodes"] == "2" and job["TresPerNode"] == "gres:gpu:8"
    assert len(list(desk.root.glob(".holdfast/stages/*/attempts/001/service-engine*.log"))) == 2
    assert desk.accuracy("evals/eval") == 1.0


def test_conversion_that_fails_keeps_the_evaluation_from_starting_and_says_why(desk: Desk) -> None:
    shard = desk.directory / STEP / "__1_0.distcp"
    whole = shard.read_bytes()
    shard.write_bytes(bytes(64) + whole[64:])
    desk.type(f"evaluate {DCP}", *FAKE, "--wait", code=1)
    found = {each["kind"]: each for each in desk.standings()}
    assert {each["state"] for each in found.values()} == {"owed"}
    assert "__1_0.distcp" in found["convert"]["reason"]
    assert found["evaluate"]["attempt"] == 0 and found["convert"]["name"] in found["evaluate"]["reason"]
    assert desk.converted() == [] and not (desk.root / "evals" / "eval" / "metrics.json").exists()
    assert "__1_0.distcp" in desk.type("why eval").stdout

    shard.write_bytes(whole)
    desk.type(f"evaluate {DCP}", *FAKE, "--wait")
    assert desk.accuracy("evals/eval") == 1.0
