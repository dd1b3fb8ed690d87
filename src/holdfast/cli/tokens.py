"""A parser that leaves the user's own tokens alone: what has a `=`, or begins with `+` or `~`, and all behind `--`; and
what verbs put into it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


class Parser(argparse.ArgumentParser):
    """With `forwards` set, such tokens may stand anywhere on the line, and end in that list unchanged, in order; what
    stands behind `--` ends in the list `behind`.
    """

    forwards: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.forwards is None or args is None:
            return super().parse_known_args(args, namespace)
        before, behind = _split(list(args))
        ours, theirs = self._divide(before)
        namespace, unknown = super().parse_known_args(ours, namespace)
        if unknown:
            told = " ".join(unknown)
            self.error(f"unrecognized arguments: {told}\n\nhint: what is the script's stands behind --: -- {told} ...")
        setattr(namespace, self.forwards, theirs)
        namespace.behind = behind
        return namespace, unknown

    def _divide(self, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
        ours: list[str] = []
        theirs: list[str] = []
        values = 0
        for argument in arguments:
            if values:
                values -= 1
                ours.append(argument)
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


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before the first `--`, and behind it."""
    if "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def add_verb(verbs: Any, name: str, module: Any) -> argparse.ArgumentParser:
    """The parser of a verb below `verbs`: its module's docstring says what it is, `add_arguments` what it takes."""
    says = str(module.__doc__)
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=says.partition("\n")[0].rstrip("."), description=says, allow_abbrev=False
    )
    verb.add_argument("--root", metavar="DIR", default=argparse.SUPPRESS, help="as before the verb")
    module.add_arguments(verb)
    return verb


def take_overrides(parser: argparse.ArgumentParser, says: str) -> None:
    """Let `parser`, one of ours, put overrides into the list `tokens`; `token` is left with words that are none."""
    parser.forwards = "tokens"  # type: ignore[attr-defined]
    parser.add_argument("token", nargs="*", metavar="KEY=VALUE", help=says)


def positive(text: str) -> int:
    """The type of an argument that counts something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def count(text: str) -> int:
    """The type of an argument that may also be none at all."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return number


def not_negative(text: str) -> float:
    """The type of an argument that measures something."""
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return number
