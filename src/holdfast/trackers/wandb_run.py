"""A stage as one W&B run, across restarts, online or offline.

The run's id follows from the root and the key, so every attempt goes on with the same run. W&B's own `_step` is the
number of the line of `metrics.jsonl` at which a row ends: the run itself says how far it came, whatever was in flight
when somebody died. Charts use our `step`. W&B cannot replace a value that it has, so of each metric and step it keeps
the first; the summary shows what stands at the end.

`WANDB_*` variables of the user win over everything here. The key of the account is W&B's business: it is neither read
into a file of ours nor passed on.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import netrc
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from holdfast.core.errors import ConfigError, UserError
from holdfast.trackers import Mark, Row, Subject, Tracker
from holdfast.trackers.lines import Table
from holdfast.trackers.redact import redact

CLOUD = "https://api.wandb.ai"
STEP = "step"
COUNTED = 10.0
"""Seconds in which the server is to have counted what it took."""
MODES = {"": "", "online": "online", "shared": "online", "offline": "offline", "dryrun": "offline"}


def run_id(root: Path, key: str, generation: int = 1) -> str:
    """The id of the run of a stage; a fresh result (`--rerun`) is another run."""
    base = hashlib.sha256(f"{root.resolve()}\n{key}".encode()).hexdigest()[:16]
    return base if generation == 1 else f"{base}-{generation}"


def unavailable(environ: Mapping[str, str]) -> str:
    """Why nothing could be sent, in words; empty where W&B is installed and logged in, or offline on purpose."""
    mode = environ.get("WANDB_MODE", "").lower()
    if mode == "disabled":
        return "WANDB_MODE is disabled"
    if importlib.util.find_spec("wandb") is None:
        return "wandb is not installed"
    return "" if mode in ("offline", "dryrun") or _is_logged_in(environ) else "not logged in to W&B"


def _is_logged_in(environ: Mapping[str, str]) -> bool:
    if environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(environ.get("WANDB_BASE_URL") or CLOUD).hostname or ""
    try:
        return netrc.netrc(environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class WandbRun(Tracker):
    """Where nobody is logged in, and no mode was asked for, the run is written offline."""

    def __init__(self, subject: Subject, environ: Mapping[str, str]) -> None:
        self.subject = subject
        self.environ = environ
        asked = MODES.get(environ.get("WANDB_MODE", "").lower())
        self.mode = asked or ("online" if _is_logged_in(environ) else "offline")
        self.directory = Path(environ.get("WANDB_DIR") or subject.home)
        self.id = ""
        self.run: Any = None
        self.end = 0
        self.sent = 0
        self.offline: Any = None

    def destination(self) -> str:
        names = ("WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_PROJECT") if self.mode == "online" else ("WANDB_DIR",)
        return "\n".join([self.mode, *(self.environ.get(name, "") for name in names), self._asked_id()])

    def _asked_id(self) -> str:
        """The run that the user asked for; not the one of the script, since two writers of one run lose rows."""
        asked = self.environ.get("WANDB_RUN_ID", "")
        return "" if asked == self.subject.script_run else asked

    def open(self, mark: Mark, generation: int) -> int:
        reason = unavailable({**self.environ, "WANDB_MODE": self.environ.get("WANDB_MODE") or self.mode})
        if reason:
            raise ConfigError(f"W&B cannot be used: {reason}", "pip install 'holdfast[wandb]', then: wandb login")
        own = str(mark.state.get("id") or run_id(self.subject.root, self.subject.key, generation))
        self.id = self._asked_id() or own
        there = self._there_offline() if self.mode == "offline" else 0
        self.run = self._start()
        self.run.define_metric(STEP, hidden=True)
        self.run.define_metric("*", step_metric=STEP)
        self.sent = there if self.mode == "offline" else int(self.run.starting_step)
        self.end = max(mark.lines, self.sent)
        return self.end

    def _there_offline(self) -> int:
        from holdfast.trackers.wandb_log import Offline

        self.offline = Offline(self.directory / "wandb", self.id)
        return int(self.offline.read())

    def _start(self) -> Any:
        import wandb

        given = {
            "project": ("WANDB_PROJECT", "holdfast"),
            "name": ("WANDB_NAME", self.subject.name),
            "job_type": ("WANDB_JOB_TYPE", self.subject.kind),
            "resume": ("WANDB_RESUME", "allow"),
            "mode": ("WANDB_MODE", self.mode),
            "dir": ("WANDB_DIR", str(self.directory)),
        }
        ours: dict[str, Any] = {
            name: value for name, (variable, value) in given.items() if not self.environ.get(variable)
        }
        try:
            return wandb.init(id=self.id, config=self._config(), settings=wandb.Settings(**self._settings()), **ours)
        except wandb.errors.Error as error:
            raise UserError(f"W&B cannot be reached: {' '.join(str(error).split())}", "it is tried again") from error

    def _settings(self) -> dict[str, Any]:
        """Nothing of our own console; and where the work is not beside us, nothing of this machine either."""
        given: dict[str, tuple[str, Any]] = {"console": ("WANDB_CONSOLE", "off")}
        if not self.subject.following:
            given["x_disable_stats"] = ("WANDB__DISABLE_STATS", True)
            given["disable_git"] = ("WANDB_DISABLE_GIT", True)
            given["disable_code"] = ("WANDB_DISABLE_CODE", True)
        return {name: value for name, (variable, value) in given.items() if not self.environ.get(variable)}

    def _config(self) -> dict[str, Any]:
        about = {"key": self.subject.key, "kind": self.subject.kind, "name": self.subject.name}
        return {**redact(dict(self.subject.params)), "holdfast": about}

    def write(self, row: Row) -> None:
        values: dict[str, float] = {name: value for name, value in row.values.items() if name in row.first}
        values.pop(STEP, None)
        if values:
            values |= {STEP: row.step} if row.time is None else {STEP: row.step, "_timestamp": row.time}
            self.run.log(values, step=row.end - 1, commit=True)
            self.sent = row.end
        self.end = row.end

    def flush(self) -> Mark | None:
        """Offline, the run's own file tells; online, nobody does before the run is closed."""
        return Mark(self.offline.read(), {"id": self.id}) if self.offline else None

    def close(self, rows: Callable[[], Iterator[Row]], code: int) -> Mark | None:
        table = Table()
        for row in rows():
            table.add(row)
        last = table.last()
        self.run.summary.update({name: value for name, value in last.items() if not math.isnan(value)})
        self.run.finish(exit_code=code)
        if not self._is_there():
            return None
        return Mark(self.end, {"id": self.id})

    def _is_there(self) -> bool:
        """Whether all that was sent arrived. `finish` does not say: what a server refuses is dropped with a warning."""
        if self.offline:
            found = bool(self.offline.read() >= self.sent)
            self.offline.sync()
            return found
        deadline = time.monotonic() + COUNTED
        while not (found := self._last_step() >= self.sent - 1) and time.monotonic() < deadline:
            time.sleep(1.0)
        return found

    def _last_step(self) -> int:
        import wandb

        try:
            api = wandb.Api(timeout=20)
            return int(api.run(f"{self.run.entity}/{self.run.project}/{self.run.id}").lastHistoryStep)
        except (wandb.errors.Error, ValueError) as error:
            raise UserError(f"W&B does not say what arrived: {error}", "it is tried again") from error


def script_run_id(root: Path, key: str, generation: int = 1) -> str:
    """The id for a script that reports to W&B by itself: never that of our own run of the same stage."""
    return f"{run_id(root, key, generation)}-script"
