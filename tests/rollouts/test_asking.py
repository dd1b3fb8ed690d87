"""An attempt has what it needs of the host; by the client of `bench/rollouts.py`, which is nothing but an attempt."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.rollouts.fake_engine import running

CLIENT = Path(__file__).parents[2] / "bench" / "rollout_clients.py"
FEW_FILES = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard})); del sys.argv[0]; "
RUN = "runpy.run_path(sys.argv[0], run_name='__main__')"


@pytest.mark.parametrize("shape", ["single", "tools"])
def test_more_are_in_flight_than_the_host_allows_open_files_at_first(tmp_path: Path, shape: str) -> None:
    with running(tmp_path, "--latency", "0.2", "--calls", "3") as engine:
        program = [sys.executable, "-c", FEW_FILES.format(hard=4096) + RUN, str(CLIENT)]
        done = subprocess.run(
            [*program, "ours", shape, engine.url, "320", "160", str(tmp_path)],
            check=False,
            capture_output=True,
            text=True,
        )
        tries = len(engine.asked())
    assert done.returncode == 0, done.stderr[-2000:]
    assert tries == 320 * (1 if shape == "single" else 4), "no request had to be made again"
    assert json.loads((tmp_path / "cost.json").read_text())["seconds"] < 60


def test_where_the_host_allows_fewer_files_than_are_needed_it_says_so(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        program = [sys.executable, "-c", FEW_FILES.format(hard=300) + RUN, str(CLIENT)]
        done = subprocess.run(
            [*program, "ours", "single", engine.url, "320", "160", str(tmp_path)],
            check=False,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0 and "160 in flight need 416 open files, and this host allows 300" in done.stderr
