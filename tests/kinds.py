"""Kinds from outside, as a user would write them, small enough to be run hundreds of times."""

from __future__ import annotations

import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.core import kind
from holdfast.core.kind import Kind
from holdfast.core.output import Output
from holdfast.core.service import Service
from holdfast.environments.addition import Addition


class Sums(Addition):
    """An environment from outside."""

    version = 1


SERVER = str(Path(__file__).parent / "server.py")


class NoteParams(kind.Params):
    """What is written, and how long it takes."""

    text: str
    seconds: float = 0.0


class Note(Kind):
    """Safe to run twice: writes its text, slowly."""

    name = "note"
    Params = NoteParams

    def run(self, params: NoteParams, inputs: Mapping[str, Path], out: Output) -> None:
        (out.path / "note.txt").write_text(params.text)
        deadline = time.monotonic() + params.seconds
        while time.monotonic() < deadline:
            time.sleep(0.02)


class AskParams(kind.Params):
    """How often the server is asked, how it behaves, and how long we wait for it."""

    times: int = 3
    manner: str = "answers"
    timeout: float = 20.0


class Ask(Kind):
    """Asks a server of its own job and keeps the answers."""

    name = "ask"
    Params = AskParams

    def services(self, params: AskParams, inputs: Mapping[str, Path]) -> list[Service]:
        command = (sys.executable, "-S", SERVER, "{port}", params.manner)
        return [Service("oracle", command, ready="/health", timeout=params.timeout)]

    def run(self, params: AskParams, inputs: Mapping[str, Path], out: Output) -> None:
        answers: list[Any] = []
        for number in range(params.times):
            with urllib.request.urlopen(f"{out.endpoint('oracle')}/{number}", timeout=5) as reply:
                answers.append(reply.read().decode())
            time.sleep(0.05)
        (out.path / "answers.txt").write_text("".join(answers))


class Shared(Note):
    """As `Note`, and what it makes can be made anew under those who read it."""

    name = "shared"
    generations = True


class FlakyParams(NoteParams):
    """Breaks as long as this file is there."""

    breaks: str = ""


class Flaky(Shared):
    """As `Shared`, and fails when it is told to."""

    name = "flaky"
    Params = FlakyParams

    def run(self, params: FlakyParams, inputs: Mapping[str, Path], out: Output) -> None:  # type: ignore[override]
        if Path(params.breaks).exists():
            raise SystemExit("it is broken")
        super().run(params, inputs, out)
