"""kill -9 of a conversion, at any boundary and at any moment: the same command gives the same bytes, and what was left
is nobody's result.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.faults.conversions import Site, shim
from tests.runs import ENTRY, REPOSITORY, environment, is_running, processes_of, wait_until

from holdfast.core import generations

pytestmark = [pytest.mark.train, pytest.mark.slow]
CRASH = REPOSITORY / "tests" / "faults" / "crash_conversion.py"
IS_SOAK = bool(os.environ.get("HOLDFAST_SOAK"))
KILLS = 200 if IS_SOAK else 8
WORKING: tuple[str, ...] = ("runner", "supervisor", "run", "finish")


def test_conversion_crashed_at_any_boundary_is_done_by_doing_it_again(checkpoint: Path, tmp_path: Path) -> None:
    every = "1" if IS_SOAK else "14"
    done = subprocess.run(
        [sys.executable, str(CRASH), str(checkpoint), str(tmp_path), every],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    seen = Counter(boundary.split()[2] for boundary in json.loads(done.stdout))
    assert set(seen) >= {"fallocate", "write", "fsync", "rename", "symlink", "link"}
    assert seen["pwrite"] + seen["copy_file_range"] > 20, "each tensor's bytes are boundaries"


def boundaries(site: Site, listing: Path) -> list[tuple[str, int]]:
    """(role, number) of every boundary in the processes of one conversion."""
    site.type(env=shim(site.root, CRASH_LIST=str(listing)))
    wait_until(lambda: list(site.root.glob(".holdfast/jobs/*/ended.json")))
    seen: Counter[str] = Counter()
    for line in listing.read_text().splitlines():
        role, number, *_ = line.split()
        seen[role] = max(seen[role], int(number) + 1)
    return [(role, number) for role in WORKING for number in range(seen[role])]


def test_command_whose_converter_crashes_at_a_boundary_ends_with_the_same_bytes(
    checkpoint: Path, tmp_path: Path, wanted: dict[str, str]
) -> None:
    everywhere = boundaries(Site(tmp_path / "listed", checkpoint), tmp_path / "list")
    assert {role for role, _ in everywhere} == set(WORKING)
    some = [("runner", 0), ("supervisor", 0), *everywhere[3 :: len(everywhere) // 3]]
    for role, number in everywhere if IS_SOAK else some:
        when = ("before", "after")[number % 2]
        site = Site(tmp_path / f"{role}-{number}-{when}", checkpoint)
        once = tmp_path / f"{site.root.name}.once"
        crash = shim(site.root, CRASH_ROLE=role, CRASH_AT=f"{number}.{when}", CRASH_ONCE=str(once))
        said = site.type(env=crash, code=None)
        # the last of the runner's are after the command's end
        wait_until(lambda once=once, site=site: once.exists() or not processes_of(site.root))  # type: ignore[misc]
        assert once.exists(), f"did not crash at {role} {number}"
        assert said.returncode == 0, (role, number, said.stderr)
        assert said.stdout.strip() == str(site.home)
        site.check(wanted)
        assert len(site.outcomes()) <= 2, "one crash costs one attempt"
        wait_until(lambda site=site: not processes_of(site.root))  # type: ignore[misc]  # called at once
        site.clean()


def kill_one(root: Path, dice: random.Random, command: int) -> str:
    """kill -9 of the command, or of one of the processes that work for it, by role first so that none is forgotten."""
    roles: dict[str, list[int]] = {"command": [command]} if is_running(command) else {}
    for pid, words in processes_of(root).items():
        names = [word for word in WORKING if word in words and "holdfast.stages" in words]
        pyz = next((place for place, word in enumerate(words) if word.endswith("supervisor.pyz")), None)
        if names or pyz is not None:
            role = names[0] if names else "runner" if pyz is not None and len(words) == pyz + 2 else "supervisor"
            roles.setdefault(role, []).append(pid)
    if not roles:
        return "nobody"
    chosen = dice.choice(sorted(roles))
    try:
        os.kill(dice.choice(roles[chosen]), signal.SIGKILL)
    except ProcessLookupError:
        return "nobody"
    return chosen


@pytest.mark.parametrize("seed", range(KILLS // 4))
def test_conversion_killed_at_random_moments_is_finished_by_the_same_command(
    seed: int, site: Site, wanted: dict[str, str]
) -> None:
    """Four times: at first, and then while it is made anew under the name of the one before."""
    dice = random.Random(seed)
    for force in ([], *[["--force-conversion"]] * 3):
        before = generations.current(site.home) if site.homes else ""
        command = start_command(site, force)
        time.sleep(dice.uniform(0.2, 1.6))
        killed = kill_one(site.root, dice, command.pid)
        _, said = command.communicate(timeout=120)
        if killed == "command":
            if site.homes:
                site.check(wanted)
            said = site.type().stderr
        else:
            assert command.returncode == 0, (killed, said)
            assert not before or generations.current(site.home) != before, (killed, "not made anew")
        site.check(wanted)
    wait_until(lambda: not processes_of(site.root))
    site.clean()


def start_command(site: Site, flags: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ENTRY, "--root", str(site.root), "convert", str(site.step), *flags],
        cwd=site.root.parent,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
