"""Where everything lies: `--root`, `$HOLDFAST_ROOT`, `root` of the saved config, a document's own variable,
`./holdfast-runs`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from holdfast.core.errors import UserError

DEFAULT = "holdfast-runs"
VERBS = "run|status|logs|why|track|cancel|rm|gc|cache|launch|evaluate|rollout|convert|compare|quickstart"
COMMAND = re.compile(rf"\bholdfast (?=(?:{VERBS})\b)")
OWN_VARIABLE = dict.fromkeys(("launch", "evaluate", "convert"), ("LOG", "nemo-rl"))
"""The verbs that came with a variable of their own, and the folder below it."""


def find(given: str | None, verb: str, environ: Mapping[str, str] = os.environ) -> tuple[Path, bool]:
    """The root, and whether somebody chose it.

    A verb with a variable of its own refuses to choose between that and another root; verbs without one take whichever
    root is there.

    Raises:
        UserError: two roots, and nobody said which.
    """
    if given:
        return _path(given), True
    found = {"HOLDFAST_ROOT": environ.get("HOLDFAST_ROOT")} if environ.get("HOLDFAST_ROOT") else {}
    found = found or {"the saved config": _saved()}
    roots = {where: _path(text) for where, text in found.items() if text}
    own = _of_variables(environ)
    if verb in OWN_VARIABLE:
        roots |= {where: path for where, path in own.items() if where == OWN_VARIABLE[verb][0]}
    elif not roots:
        roots = {
            where: path for where, path in {**own, "here": _path(DEFAULT)}.items() if (path / ".holdfast").is_dir()
        }
    if len(set(roots.values())) > 1:
        told = ", ".join(f"{path} ({where})" for where, path in roots.items())
        raise UserError(f"two roots, and nobody said which: {told}", f"say it: --root {next(iter(roots.values()))}")
    return (next(iter(roots.values())), True) if roots else (_path(DEFAULT), False)


def keep(text: str, typed: str | None) -> str:
    """A hint with the root that was typed in each of its commands: without it they would look elsewhere."""
    if typed is None or "--root" in text:
        return text
    return COMMAND.sub(lambda match: f"{match[0]}--root {shlex.quote(typed)} ", text)


def _of_variables(environ: Mapping[str, str]) -> dict[str, Path]:
    return {name: _path(f"{environ[name]}/{folder}") for name, folder in OWN_VARIABLE.values() if environ.get(name)}


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise UserError(f"root {text!r} names the home of a user who is not known here", "--root DIR") from None
    except FileNotFoundError:
        raise UserError("the directory in which this is typed is not there any more", "cd to another one") from None


def _saved() -> str | None:
    from holdfast.core import config

    saved = config.settings().get("root")
    return str(saved) if saved else None
