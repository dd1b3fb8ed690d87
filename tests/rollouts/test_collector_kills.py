"""Kill -9 of the collector at any moment: exactly N responses to each prompt, no acknowledged row lost, none twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.rollouts.fake_engine import QUICK, REPEATS, read, running

PROMPTS = 60
WANTED = PROMPTS * REPEATS
PROGRAM = f"""
import sys
from pathlib import Path
from tests.rollouts.fake_engine import QUICK, run
directory, url, attempt = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
acknowledged = open(directory / "acknowledged", "a")

def note(counts):
    acknowledged.write(f"{{counts.done}}\\n")
    acknowledged.flush()

run(directory, url, prompts={PROMPTS}, attempt=attempt, on_report=note)
"""
HAS_SOAK = bool(os.environ.get("HOLDFAST_SOAK"))


def start(directory: Path, url: str, attempt: int) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(directory), url, str(attempt)], env=environ)


def acknowledged(directory: Path) -> int:
    path = directory / "acknowledged"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return max(map(int, lines), default=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20 if HAS_SOAK else 2))
def test_killed_at_random_moments_it_ends_with_every_response_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    kills = 0
    with running(tmp_path, "--latency", "0.03") as engine:
        for attempt in range(1, 1000):
            child = start(tmp_path, engine.url, attempt)
            aim = len(read(tmp_path, PROMPTS)[0]) + chance.randint(1, 25)
            while child.poll() is None and len(read(tmp_path, PROMPTS)[1]) < aim:
                time.sleep(0.002)
            time.sleep(chance.random() * 0.05)
            child.send_signal(signal.SIGKILL)
            code = child.wait()
            rows, lines = read(tmp_path, PROMPTS)
            assert len(rows) >= acknowledged(tmp_path), "what was acknowledged is there"
            once = Counter((line["id"], line["repeat"]) for line in lines)
            assert set(once.values()) <= {1}, "nothing that is recorded is asked again"
            kills += code == -signal.SIGKILL
            if code == 0:
                break
        asked = len(engine.asked())
    assert len(rows) == WANTED and kills >= 3
    assert asked <= WANTED + kills * (QUICK.in_flight + 8), "a kill costs what was in flight, or not yet written"
