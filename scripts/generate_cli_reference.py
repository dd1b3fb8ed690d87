"""Write docs/reference/cli.md from the argument parser, so that the reference cannot say what the program does not.

With `--check` nothing is written: a file out of step is shown as a diff, and the exit code is 1.
Usage lines are composed here and not by argparse, whose wording changes with Python's version and the terminal.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

from holdfast.cli.main import build_parser

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"
INTRODUCTION = "<!-- Written by `make docs` from the argument parser; do not edit. -->\n\n# Command line\n"


def reference() -> str:
    """The whole page, ending in one newline."""
    return "\n".join([INTRODUCTION, *_sections(build_parser(), level=2)]).rstrip("\n") + "\n"


def _sections(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    """One section for the parser, then one for each verb below it."""
    yield f"{'#' * level} `{parser.prog}`\n"
    if parser.description:
        yield f"{parser.description.strip()}\n"
    yield f"```text\n{_usage(parser)}\n```\n"
    rows = list(_rows(parser))
    if rows:
        yield "\n".join(["| argument | meaning |", "|---|---|", *rows]) + "\n"
    if parser.epilog:
        yield f"{parser.epilog.strip()}\n"
    for verb in _verbs(parser).values():
        yield from _sections(verb, level + 1)


def _usage(parser: argparse.ArgumentParser) -> str:
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    required = [_syntax(action) for action in shown if action.option_strings and action.required]
    options = ["[options]"] if any(action.option_strings and not action.required for action in shown) else []
    return " ".join([parser.prog, *options, *required, *map(_operands, _positionals(parser))])


def _rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Positional arguments, then verbs, then options, each with its help."""
    for action in _positionals(parser):
        if isinstance(action, argparse._SubParsersAction):
            summaries = {entry.dest: _help(entry, parser) for entry in action._get_subactions()}
            for name in action.choices:
                yield f"| `{name}` | {summaries.get(name, '')} |"
        else:
            yield f"| `{_operands(action)}` | {_help(action, parser)} |"
    for action in parser._actions:
        if action.option_strings and action.help != argparse.SUPPRESS:
            yield f"| `{_syntax(action)}` | {_help(action, parser)} |"


def _positionals(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not action.option_strings and action.help != argparse.SUPPRESS]


def _syntax(action: argparse.Action) -> str:
    """`-f, --follow` or `--root DIR`."""
    return f"{', '.join(action.option_strings)} {_operands(action)}".rstrip()


def _operands(action: argparse.Action) -> str:
    """What follows the option, or stands for the positional argument."""
    if action.nargs == 0:
        return ""
    name = _metavar(action)
    if isinstance(action.nargs, int):
        return " ".join([name] * action.nargs)
    return {None: name, "?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} [{name} ...]"}.get(
        action.nargs, f"{name} ..."
    )


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    if action.metavar:
        return action.metavar
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper() if action.option_strings else action.dest


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    return " ".join(text.split()).replace("|", "\\|")


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail with a diff when out of step")
    options = parser.parse_args()
    wanted = reference()
    found = REFERENCE.read_text(encoding="utf-8") if REFERENCE.exists() else ""
    if options.check and found != wanted:
        lines = difflib.unified_diff(
            found.splitlines(), wanted.splitlines(), "docs/reference/cli.md", "the parser", lineterm=""
        )
        print("\n".join(lines))
        print("\ndocs/reference/cli.md is out of step with the parser\n\nhint: `make docs`", file=sys.stderr)
        return 1
    if not options.check:
        REFERENCE.parent.mkdir(parents=True, exist_ok=True)
        REFERENCE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
