"""Who reads a converted model reads all of it, however often it is made anew meanwhile, and whatever goes from the
cache.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.faults.conversions import Site, copy_step, retouch, shim
from tests.faults.test_conversion_at_once import STOPS, collect, kill_all, stopped, type_at_once
from tests.runs import claims, hold, python, start, status, wait_until, write_plan

from holdfast.core import artifact, generations

pytestmark = [pytest.mark.train, pytest.mark.slow]
READER = """
import hashlib, os, sys
home, stop = sys.argv[1:]
def read(where):
    names = sorted(name for name in os.listdir(where) if not name.startswith(".") and name != "metrics.jsonl")
    return {name: hashlib.sha256(open(os.path.join(where, name), "rb").read()).hexdigest() for name in names}
resolved = os.path.realpath(home)
first, rounds, seen = read(home), 0, set()
while not os.path.exists(stop):
    for where in (home, resolved, os.path.realpath(home)):
        found = read(where)
        assert found == first, (where, found, first)
    seen.add(os.readlink(home))
    rounds += 1
    if rounds == 1:
        print("reads", flush=True)
print(rounds, len(seen))
"""
COPY = f"{READER}\nopen(os.path.join(os.environ['HOLDFAST_OUT'], 'rounds'), 'w').write(str(rounds))"


@contextmanager
def reader(home: Path, stop: Path) -> Iterator[list[int]]:
    """A process that reads a model over and over; at the end, how often, and how many generations it saw."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", READER, str(home), str(stop)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "reads\n"
    found: list[int] = []
    try:
        yield found
    finally:
        stop.touch()
        told, complaint = process.communicate(timeout=60)
    assert process.returncode == 0, complaint
    found += map(int, told.split())


def test_readers_notice_nothing_of_a_conversion_that_is_made_anew(
    site: Site, tmp_path: Path, wanted: dict[str, str]
) -> None:
    """Once, twice at the same moment, and once killed half way."""
    site.type()
    with reader(site.home, tmp_path / "stop") as found:
        site.type("--force-conversion")
        assert generations.current(site.home).endswith(".g2")
        collect(type_at_once(site, 2, "--force-conversion"))
        twice = generations.current(site.home)
        crash = shim(site.root, CRASH_ONCE=str(tmp_path / "once"), **STOPS)
        forced = start(site.root, "convert", str(site.step), "--force-conversion", **crash)
        claim, converter = stopped(site, attempt=len(claims(site.root, site.home.name)) + 1)
        site.check(wanted)
        kill_all(claim, converter, site)
        forced.send_signal(signal.SIGKILL)
        forced.communicate()
        site.check(wanted)
        assert generations.current(site.home) == twice
        site.type("--force-conversion")
        assert generations.current(site.home) != twice
    rounds, seen = found
    assert rounds > 10 and seen >= 3
    site.check(wanted)


def test_forced_conversion_that_fails_is_a_failure_and_the_one_before_stays(
    site: Site, tmp_path: Path, wanted: dict[str, str]
) -> None:
    site = Site(site.root, copy_step(site.step, tmp_path))
    site.type()
    before = generations.current(site.home)
    crash = shim(site.root, CRASH_ONCE=str(tmp_path / "once"), **STOPS)
    forced = start(site.root, "convert", str(site.step), "--force-conversion", **crash)
    _, converter = stopped(site, attempt=2)
    file = retouch(site.step)
    os.kill(converter, signal.SIGCONT)
    told, complaint = forced.communicate(timeout=60)
    assert forced.returncode == 1, (told, complaint)
    assert f"failed once: error: {file} changed while it was read" in told
    assert generations.current(site.home) == before
    site.check(wanted)
    site.type(code=0)


def test_conversion_is_made_anew_while_a_stage_reads_it_and_that_stage_completes(
    checkpoint: Path, tmp_path: Path
) -> None:
    root, go = tmp_path / "root", tmp_path / "go"
    convert = {
        "kind": "convert",
        "inputs": {"checkpoint": str(checkpoint), "model": str(checkpoint.parents[1] / "base")},
    }
    convert["inputs"] = {"checkpoint": str(checkpoint / "policy/weights"), "model": str(checkpoint.parents[1] / "base")}
    stages = {"model": convert, "reads": {**python(COPY, "{inputs.model}", str(go)), "inputs": {"model": "model"}}}
    plan = str(write_plan(tmp_path / "plan.yaml", stages))
    hold(root, "run", plan, code=0)
    wait_until(lambda: "reads\n" in hold(root, "logs", "reads").stdout, 60)
    only = str(write_plan(tmp_path / "only.yaml", {"model": convert}))
    hold(root, "run", only, "--rerun", "model", "--wait", code=0)
    assert generations.current(root / "hf_eval_checkpoints" / "model").endswith(".g2")
    assert status(root, "reads")["state"] == "running"
    go.touch()
    wait_until(lambda: status(root, "reads")["state"] == "complete")
    assert int((root / "reads" / "rounds").read_text()) > 1


def test_nobody_reads_half_a_model_when_the_cache_is_emptied_as_readers_start(
    site: Site, tmp_path: Path, wanted: dict[str, str]
) -> None:
    """Eight who begin to read it while others empty the cache all the time: each reads all of it, or is owed."""
    model = {"checkpoint": str(site.step / "policy/weights"), "model": str(site.step.parents[1] / "base")}
    stages: dict[str, object] = {"model": {"kind": "convert", "inputs": model}}
    hold(site.root, "run", str(write_plan(tmp_path / "model.yaml", stages)), "--wait", code=0)
    for number in range(8):
        script = f"{COPY}\nassert {number} < 8"
        (tmp_path / f"stop{number}").touch()
        read = python(script, "{inputs.model}", str(tmp_path / f"stop{number}"), makes=["rounds"])
        plan = {**stages, f"reads{number}": {**read, "inputs": {"model": "model"}}}
        write_plan(tmp_path / f"plan{number}.yaml", plan)
    people = [start(site.root, "run", f"plan{number}.yaml", "--wait") for number in range(8)]
    taken = 0
    while any(person.poll() is None for person in people):
        gone = json.loads(hold(site.root, "cache", "gc", "--quota", "0", "--json", code=0).stdout)
        taken += sum(entry["path"].endswith("/model") for entry in gone)
        time.sleep(0.1)
    told = [person.communicate()[0] for person in people]
    assert taken, "it was never taken out"
    assert [person.returncode for person in people] == [0] * 8, told
    for number in range(8):
        assert (site.root / f"reads{number}" / "rounds").read_text() == "0"
    wait_until(lambda: status(site.root, "model")["state"] in ("evicted", "complete"))
    hold(site.root, "run", str(tmp_path / "model.yaml"), "--wait", "--rebuild", code=None)
    manifest = artifact.read(site.home) if site.homes else None
    assert manifest is None or artifact.verify(site.home, manifest, digests=True) == []
