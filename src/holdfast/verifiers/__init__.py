"""Verifiers: what a response is worth, given the solution of its problem.

Four ship; yours is a function, `package.module:function(response, solution)`, that returns a number, a bool or a
`Grade`. A verifier runs what a model wrote through parsers that may never end, so work that must not hang asks a
`holdfast.verifiers.pool.VerifierPool`, whose processes can be killed.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from holdfast.core import near
from holdfast.core.errors import ConfigError
from holdfast.core.plugins import load_function

SHIPPED = {
    "math": "holdfast.verifiers.mathematics:Math",
    "gsm8k": "holdfast.verifiers.gsm8k:Gsm8k",
    "multiple_choice": "holdfast.verifiers.multiple_choice:MultipleChoice",
    "exact": "holdfast.verifiers.exact:Exact",
}


class Grade(NamedTuple):
    """What a response is worth; `answer` in a form in which equal answers are equal texts."""

    reward: float
    answer: str | None = None


class Verifier(Protocol):
    """`name` and `version` are part of the identity of every reward: another rule is another version."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int | str: ...

    def grade(self, response: str, solution: Any) -> Grade:
        """What `response` is worth; `solution` is the row's, as JSON has it (a text, a number, a list, a mapping).

        Raises:
            ValueError: the solution is none that this verifier can read: the data's fault, never the response's.
        """


@dataclass(frozen=True)
class Own:
    """A function of somebody's own as a verifier. Its version is the attribute `version` of the function, otherwise a
    digest of the file that it is in: changed code gives other rewards.
    """

    name: str
    function: Callable[[str, Any], object] = field(repr=False)

    @property
    def version(self) -> int | str:
        chosen = getattr(self.function, "version", None)
        if isinstance(chosen, int | str):
            return chosen
        try:
            source = inspect.getsource(inspect.getmodule(self.function) or self.function)
        except (OSError, TypeError):
            return "unknown"
        return hashlib.sha256(source.encode()).hexdigest()[:12]

    def grade(self, response: str, solution: Any) -> Grade:
        """
        Raises:
            ValueError: the function returned nothing that can be a reward.
        """
        found = self.function(response, solution)
        reward, answer = (found.reward, found.answer) if isinstance(found, Grade) else (found, None)
        if not isinstance(reward, int | float) or not math.isfinite(reward):
            raise ValueError(f"{self.name} returned {found!r}, expected a number, a bool or a Grade")
        return Grade(float(reward), None if answer is None else str(answer))


def load_verifier(name: str) -> Verifier:
    """The verifier of this name. Nothing that it needs is loaded before it grades.

    Raises:
        ConfigError: there is none, or the function cannot be imported.
    """
    if name in SHIPPED:
        module, _, attribute = SHIPPED[name].partition(":")
        found: Verifier = getattr(importlib.import_module(module), attribute)()
        return found
    if ":" not in name:
        close = near.name(name, SHIPPED)
        known = f"verifiers: {', '.join(SHIPPED)}, or your own as package.module:function"
        raise ConfigError(f"there is no verifier `{name}`", f"did you mean `{close}`?" if close else known)
    return Own(name, load_function(name, "verifier"))
