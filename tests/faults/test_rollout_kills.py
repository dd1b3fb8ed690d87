"""kill -9 of a collector of rollouts at any moment: every rollout once, none that was acknowledged lost."""

from __future__ import annotations

import itertools
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
from tests.rollouts.fake_engine import running
from tests.runs import environment

PROMPTS, REPEATS, IN_FLIGHT = 40, 8, 8
WANTED = PROMPTS * REPEATS
PROGRAM = f"""
import json, sys
from pathlib import Path
from holdfast.core.output import Output
from holdfast.stages.rollouts import Rollouts
from tests.tiny import make_output

class Noting(Output):
    "Notes all that it is told, of which the file of progress has a line twice a second."

    def progress(self, done, total, unit, **more):
        super().progress(done, total, unit, **more)
        with open(directory / "acknowledged", "a") as file:
            file.write(f"{{done}}\\n")

directory, url, attempt = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
out = make_output(directory, attempt, environ={{"HOLDFAST_SERVICE_ENGINE": url}}, of=Noting)
prompts = str(directory / "prompts.jsonl")
params = dict(environment="tetris", prompts=prompts, model="fake", engine="fake", repeats={REPEATS}, max_tokens=256,
              in_flight={IN_FLIGHT}, turns=6, deadline=20.0, patience=20.0)
Rollouts().run(Rollouts().parse(params), {{}}, out)
"""
KILLS = 50
PIECES = 20 if os.environ.get("HOLDFAST_SOAK") else 1


def write_prompts(directory: Path) -> None:
    rows = ({"game_id": n, "seed": 100 + n, "dim_board": [4, 4], "box_type": n % 4} for n in range(PROMPTS))
    (directory / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def start(directory: Path, url: str, attempt: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, str(directory), url, str(attempt)]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)


def recorded(directory: Path) -> int:
    """Lines that are whole, counted without reading them as rows."""
    return sum(part.read_bytes().count(b"\n") for part in directory.glob("collections/*/parts/*.jsonl"))


def acknowledged(directory: Path) -> int:
    """As far as the attempt said that it was: what it counts is durable."""
    path = directory / "acknowledged"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return max(map(int, lines), default=0)


def samples(directory: Path) -> Counter[tuple[str, int]]:
    lines = [
        line for part in directory.glob("collections/*/parts/*.jsonl") for line in part.read_text().split("\n")[:-1]
    ]
    return Counter((row["id"], row["repeat"]) for row in map(json.loads, lines))


def kill_until_done(directory: Path, url: str, dice: random.Random) -> int:
    """Kill one attempt after another at random moments until one gets to its end; returns how many were killed."""
    before = samples(directory)
    for attempt in range(1, 10_000):
        child, aim = start(directory, url, attempt), recorded(directory) + dice.randint(0, WANTED // 20)
        while child.poll() is None and recorded(directory) < aim:
            time.sleep(0.002)
        time.sleep(dice.random() * 0.05)
        child.send_signal(signal.SIGKILL)
        code = child.wait()
        found = samples(directory)
        assert set(found.values()) <= {1}, "nothing that is recorded is played again"
        assert len(found) >= acknowledged(directory), "what was acknowledged is there"
        assert before.keys() <= found.keys(), "what was there stays"
        before = found
        if code == 0:
            return attempt - 1
        assert code == -signal.SIGKILL, code
    raise AssertionError("it never got to its end")


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("piece", range(PIECES))
def test_killed_at_random_moments_every_rollout_is_there_once(tmp_path: Path, piece: int) -> None:
    killed = 0
    seeds = itertools.count(1000 * piece)
    with running(tmp_path, "--latency", "0.005", "--accuracy", "0.5") as engine:
        while killed < KILLS:
            seed = next(seeds)
            directory = tmp_path / str(seed)
            directory.mkdir()
            write_prompts(directory)
            killed += kill_until_done(directory, engine.url, random.Random(seed))
            rows = [json.loads(line) for line in (directory / "home" / "rollouts.jsonl").read_text().splitlines()]
            order = [(str(n), repeat) for n in range(PROMPTS) for repeat in range(REPEATS)]
            assert [(row["id"], row["repeat"]) for row in rows] == order
