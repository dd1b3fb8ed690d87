"""Types `holdfast` commands in processes of their own, and looks at what they left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from holdfast.core import attempt
from holdfast.core.attempt import Claim
from holdfast.core.store import Store

REPOSITORY = Path(__file__).parents[1]
ENTRY = "import sys; sys.argv[0] = 'holdfast'; from holdfast.cli.main import main; sys.exit(main())"
SUBMIT = """
import json, sys
from pathlib import Path
from holdfast.core.store import Store
from holdfast.execute.local import LocalExecutor
from holdfast.execute.submit import Placement, submit
from holdfast.pipelines import stored
plan, root, placement, again = sys.argv[1], Store(Path(sys.argv[2])), json.loads(sys.argv[3]), sys.argv[4:]
wanted = stored.plan_for(plan, [], root)
done = submit(wanted, root, LocalExecutor(), Placement(**placement), [stored.named(wanted, name).key for name in again])
print(json.dumps([standing.record.name for standing in done.taken]))
"""


def environment(**changes: str) -> dict[str, str]:
    """Ours, with the package and these tests importable, and nothing of the attempt that may run us."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    # An empty part would be the working directory.
    path = os.pathsep.join(filter(None, [str(REPOSITORY / "src"), str(REPOSITORY), kept.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1", **changes}


def hold(
    root: Path, *arguments: str, code: int | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Type one command and wait for it; with `code`, that must be its exit code."""
    done = subprocess.run(
        [sys.executable, "-c", ENTRY, "--root", str(root), *arguments],
        cwd=root.parent,
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert code is None or done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    return done


def start(root: Path, *arguments: str, **changes: str) -> subprocess.Popen[str]:
    """Type one command and go on."""
    return subprocess.Popen(
        [sys.executable, "-c", ENTRY, "--root", str(root), *arguments],
        cwd=root.parent,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def submit(root: Path, plan: Path, *again: str, env: Mapping[str, str] | None = None, **placement: float) -> list[str]:
    """Submit a plan with seconds that a test can wait for; returns the names that were taken."""
    done = subprocess.run(
        [sys.executable, "-c", SUBMIT, str(plan), str(root), json.dumps(placement), *again],
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [str(name) for name in json.loads(done.stdout)]


def write_plan(path: Path, stages: Mapping[str, Any]) -> Path:
    """A plan file: JSON is YAML."""
    path.write_text(json.dumps({"stages": stages}, ensure_ascii=False))
    return path


def shell(script: str, **fields: Any) -> dict[str, Any]:
    """A command stage of one line of shell."""
    return {"kind": "command", "params": {"command": ["sh", "-c", script], **fields}}


def python(script: str, *arguments: str, **fields: Any) -> dict[str, Any]:
    """A command stage of a few lines of Python."""
    return {"kind": "command", "params": {"command": [sys.executable, "-S", "-c", script, *arguments], **fields}}


def status(root: Path, name: str) -> dict[str, Any]:
    """How a stage stands, by `status --json`."""
    (standing,) = json.loads(hold(root, "status", name, "--json").stdout)
    return dict(standing)


def key_of(root: Path, name: str) -> str:
    return Store(root).find(name).key


def claims(root: Path, name: str) -> list[Claim]:
    """The attempts of a stage, oldest first."""
    return attempt.every(Store(root).attempts(key_of(root, name)))


def wait_until(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What `condition` gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {condition}")


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def processes_of(root: Path) -> dict[int, list[str]]:
    """Every process that works for this root: its command line by pid."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and is_running(int(entry)):
            try:
                command = Path(f"/proc/{entry}/cmdline").read_bytes()
                carried = Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue
            if f"{root}/.holdfast".encode() in command or f"HOLDFAST_ROOT={root}\0".encode() in carried + b"\0":
                found[int(entry)] = command.decode(errors="replace").rstrip("\0").split("\0")
    return found
