"""A parser that leaves the user's own tokens alone: what has a `=`, or begins with `+` or `~`, and all behind `--`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


class Parser(argparse.ArgumentParser):
    """With `forwards` set, such tokens may stand anywhere on the line, and end in that list unchanged, in order."""

    forwards: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.forwards is None or args is None:
            return super().parse_known_args(args, namespace)
        ours, theirs = self._divide(list(args))
        namespace, unknown = super().parse_known_args(ours, namespace)
        setattr(namespace, self.forwards, theirs)
        return namespace, unknown

    def _divide(self, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
        ours: list[str] = []
        theirs: list[str] = []
        values = 0
        for number, argument in enumerate(arguments):
            if values:
                values -= 1
                ours.append(argument)
            elif argument == "--":
                return ours, [*theirs, *arguments[number + 1 :]]
            elif argument.startswith("-"):
                values = self._values_of(argument)
                ours.append(argument)
            elif "=" in argument or argument.startswith(("+", "~")):
                theirs.append(argument)
            else:
                ours.append(argument)
        return ours, theirs

    def _values_of(self, option: str) -> int:
        """How many of the next arguments are this option's."""
        action = self._option_string_actions.get(option)
        return 1 if action is not None and action.nargs is None else 0
