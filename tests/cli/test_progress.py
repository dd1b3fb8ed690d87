"""A live table stays a table on a narrow terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from pathlib import Path

from rich.text import Text
from tests.runs import ENTRY, environment, hold, python, status, wait_until, write_plan

WIDTH = 50


def test_watched_table_has_one_line_a_stage_however_narrow_the_terminal(tmp_path: Path) -> None:
    root = tmp_path / "root"
    name = "a-stage-with-a-name-that-is-longer-than-the-terminal-is-wide"
    script = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.05)"
    write_plan(tmp_path / "plan.yaml", {name: python(script, str(tmp_path / "go"))})
    hold(root, "run", "plan.yaml", code=0)
    wait_until(lambda: status(root, name)["state"] == "running")
    shown = watch(root, tmp_path / "go")
    live = shown.partition("1 stage: 1 running")[0]
    assert "…" in live, "cut, and said so"
    lines = [Text.from_ansi(line).plain for line in live.replace("\r", "").split("\n")]
    assert [line[:20] for line in lines if line] == [name[:20]]


def watch(root: Path, go: Path) -> str:
    """All that `status --watch` writes to a narrow terminal until the work ends, which it does once it was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
        command = [sys.executable, "-c", ENTRY, "--root", str(root), "status", "--watch"]
        os.execve(sys.executable, command, {**environment(), "TERM": "xterm"})
    shown = b""
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # the other side of a terminal closed
            chunk = b""
        if not chunk:
            os.waitpid(pid, 0)
            return shown.decode()
        shown += chunk
        if b"1 running" in shown:
            go.touch()
