"""Many want one conversion at the same moment: one converts, all get it, also when whoever is at it dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.faults.conversions import Site, copy_step, payload, retouch, shim
from tests.runs import claims, hold, is_running, processes_of, start, wait_until

from holdfast.core import generations
from holdfast.core.attempt import Claim

pytestmark = [pytest.mark.train, pytest.mark.slow]
PEOPLE = 16
STOPS = {"CRASH_ROLE": "run", "CRASH_FIRST": "pwrite,copy_file_range", "CRASH_STOPS": "1"}
"""The process that converts stops in the middle of it, once."""


def type_at_once(site: Site, count: int, *flags: str, **variables: str) -> list[subprocess.Popen[str]]:
    return [start(site.root, "convert", str(site.step), *flags, **variables) for _ in range(count)]


def collect(people: list[subprocess.Popen[str]]) -> list[tuple[str, str]]:
    """What each was told on stdout and on stderr; all ended well."""
    told = [person.communicate(timeout=240) for person in people]
    assert [person.returncode for person in people] == [0] * len(people), told
    return told


def stopping(site: Site, tmp_path: Path) -> dict[str, str]:
    return shim(site.root, CRASH_ONCE=str(tmp_path / "once"), **STOPS)


def stopped(site: Site, attempt: int = 1) -> tuple[Claim, int]:
    """The newest attempt and the process that converts, once that has stopped."""

    def find() -> list[int]:
        found = [pid for pid, words in processes_of(site.root).items() if "holdfast.stages" in words]
        return [pid for pid in found if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"]

    (pid,) = wait_until(find, 60)
    (name,) = [json.loads(path.read_text())["name"] for path in site.root.glob(".holdfast/stages/*/stage.json")]
    claim = claims(site.root, name)[-1]
    assert claim.n == attempt
    return claim, pid


def kill_all(claim: Claim, converter: int, site: Site) -> None:
    for pid in (claim.owner.pid, converter, *processes_of(site.root)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_sixteen_who_want_one_conversion_get_one_and_all_get_it(site: Site, wanted: dict[str, str]) -> None:
    out = site.root.parent / "models" / "mine"
    people = type_at_once(site, PEOPLE // 2) + type_at_once(site, PEOPLE // 2, "--hf-ckpt-path", str(out))
    told = collect(people)
    assert [said.strip() for said, _ in told] == [str(site.home)] * (PEOPLE // 2) + [str(out)] * (PEOPLE // 2)
    site.check(wanted)
    assert payload(out) == wanted
    assert [path.name for path in out.parent.iterdir()] == ["mine"]
    assert site.outcomes() == ["complete"]
    assert [path.name for path in generations.directories(site.home)] == [generations.current(site.home)]


def test_converter_that_is_killed_is_replaced_by_one_of_those_who_wait(
    site: Site, tmp_path: Path, wanted: dict[str, str]
) -> None:
    people = type_at_once(site, PEOPLE, **stopping(site, tmp_path))
    claim, converter = stopped(site)
    kill_all(claim, converter, site)
    told = collect(people)
    assert {said.strip() for said, _ in told} == {str(site.home)}
    site.check(wanted)
    assert site.outcomes() == ["died", "complete"]
    assert len(generations.directories(site.home)) == 1
    who = f"running pid {claim.owner.pid} on {claim.owner.host} ({claim.owner.user}, for "
    assert any(who in said for _, said in told), "whom they waited for"


def test_evaluation_that_waits_for_a_conversion_elsewhere_takes_over_when_its_maker_is_killed(
    site: Site, tmp_path: Path, wanted: dict[str, str]
) -> None:
    first = start(site.root, "convert", str(site.step), "--no-wait", **stopping(site, tmp_path))
    claim, converter = stopped(site)
    first.communicate(timeout=60)
    words = [
        "data.dataset_name=arithmetic",
        "data.count=4",
        "--executor",
        "local",
        "--engine",
        "fake",
        "--wait",
        "--jobname",
        "e",
    ]
    second = start(site.root, "evaluate", "--dcp-ckpt-path", str(site.step), *words)
    wait_until(lambda: len(list(site.root.glob(".holdfast/jobs/*/job.json"))) > 1, 60)
    for pid in (claim.owner.pid, converter):
        os.kill(pid, signal.SIGKILL)
    told = second.communicate(timeout=120)
    assert second.returncode == 0, told
    site.check(wanted)
    assert site.outcomes() == ["died", "complete"]
    assert len((site.root / "evals" / "e" / "rows.jsonl").read_text().splitlines()) == 4


def test_waiting_command_says_how_far_the_other_one_is(site: Site, tmp_path: Path) -> None:
    first = start(site.root, "convert", str(site.step), **stopping(site, tmp_path))
    claim, converter = stopped(site)
    said = {"schema": 1, "done": 1_500_000, "total": 3_000_000, "unit": "byte"}
    (claim.directory / "progress.json").write_text(json.dumps(said))
    second = start(site.root, "convert", str(site.step))
    assert second.stderr
    lines = (line for line in second.stderr if "running" in line)
    assert next(lines).rstrip().endswith("s, 1.5 MB of 3.0 MB)")
    os.kill(converter, signal.SIGCONT)
    collect([first])
    second.wait(60)
    second.communicate()


def test_failure_of_the_one_who_converts_is_that_of_all_who_wait(site: Site, tmp_path: Path) -> None:
    site = Site(site.root, copy_step(site.step, tmp_path))
    people = type_at_once(site, 4, **stopping(site, tmp_path))
    _, converter = stopped(site)
    (key,) = (path.parent.name for path in site.root.glob(".holdfast/stages/*/stage.json"))
    file = retouch(site.step)
    os.kill(converter, signal.SIGCONT)
    told = [person.communicate(timeout=120)[0] for person in people]
    assert [person.returncode for person in people] == [1] * 4, told
    assert all(f"failed once: error: {file} changed while it was read" in each for each in told)
    assert len(claims(site.root, key)) == 1, "what failed by itself is not tried by each of them"


def test_cancelled_conversion_is_not_begun_again_by_those_who_wait(site: Site, tmp_path: Path) -> None:
    people = type_at_once(site, 3, **stopping(site, tmp_path))
    claim, converter = stopped(site)
    (key,) = (path.parent.name for path in site.root.glob(".holdfast/stages/*/stage.json"))
    hold(site.root, "cancel", key[:12], code=0)
    wait_until((claim.directory / "stop").exists)
    os.kill(converter, signal.SIGCONT)
    told = [person.communicate(timeout=120)[0] for person in people]
    assert [person.returncode for person in people] == [3] * 3, told
    assert "cancelled by" in told[0] and len(claims(site.root, key)) == claim.n


def test_converter_on_a_machine_that_fell_silent_is_replaced_and_publishes_nothing_when_it_wakes(
    site: Site, tmp_path: Path, wanted: dict[str, str]
) -> None:
    """The claim is that of another machine, of which nobody here can prove anything."""
    (site.root.parent / "holdfast.yaml").write_text("slurm: {heartbeat: 0.2, silence: 3}\n")
    first = start(site.root, "convert", str(site.step), **stopping(site, tmp_path))
    claim, converter = stopped(site)
    content = json.loads(claim.path.read_text())
    content["owner"].update(machine="other@other", host="other")
    claim.path.with_name("changed").write_text(json.dumps(content))
    claim.path.with_name("changed").replace(claim.path)
    second = start(site.root, "convert", str(site.step))
    assert second.stderr
    assert any("runs on other, which cannot be seen from here" in line for line in second.stderr)
    os.kill(claim.owner.pid, signal.SIGSTOP)
    wait_until(lambda: site.homes, 60)
    os.kill(claim.owner.pid, signal.SIGCONT)
    wait_until(lambda: not is_running(claim.owner.pid), 30)
    second.communicate(timeout=60)
    assert second.returncode == 0
    collect([first])
    site.check(wanted)
    assert site.outcomes() == ["silent", "complete"]
    assert len(generations.directories(site.home)) == 1
    wait_until(lambda: not is_running(converter))
