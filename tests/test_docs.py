"""Holds the documents: links lead somewhere, commands in them parse, generated pages are in step with the code."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from holdfast.cli.main import build_parser

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [
    page
    for page in (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(REPOSITORY.glob("docs/**/*.md")))
    if page.exists()
]
FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|(?:src|href)=\"([^\"]+)\"")
SEPARATORS = {";", "&", "&&", "|", "||", "(", ")", ">", ">>", "<", "2>", ";;", "\n"}


def page_id(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def links(page: Path) -> Iterator[str]:
    """Targets of relative links, without the part after `#`; fenced blocks are not prose."""
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))
    for match in LINK.finditer(prose):
        target = (match[1] or match[2]).partition("#")[0]
        if target and not re.match(r"[a-z]+:", target):
            yield unquote(target)


def commands(page: Path) -> Iterator[list[str]]:
    """Each simple command of the page's ```bash blocks, as tokens, without the variables set before it."""
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language not in {"bash", "sh", "shell"}:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            yield from simple_commands(list(lexer))


def simple_commands(tokens: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for token in [*tokens, ";"]:
        if token in SEPARATORS:
            while command and re.fullmatch(r"\w+=.*", command[0]):
                command.pop(0)
            if command:
                yield command
            command = []
        else:
            command.append(token)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


def complaint(arguments: list[str]) -> str | None:
    """What the parser says against a command line of `holdfast`, None when it takes it."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            build_parser().parse_args(arguments)
        except SystemExit as exit_:
            return said.getvalue() if exit_.code else None
    return None


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_relative_links_lead_somewhere(page: Path) -> None:
    assert [target for target in links(page) if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_in_the_documents_can_be_typed(page: Path) -> None:
    for command in commands(page):
        if Path(command[0]).name == "holdfast":
            said = complaint(command[1:])
            assert said is None, f"{shlex.join(command)}\n{said}"
        elif command[0] == "make":
            targets = {word for word in command[1:] if "=" not in word and not word.startswith("-")}
            assert targets <= make_targets(), shlex.join(command)


def test_the_command_line_reference_is_in_step() -> None:
    script = REPOSITORY / "scripts" / "generate_cli_reference.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_make_target_is_explained() -> None:
    explained = set(re.findall(r"^([a-z][a-z-]*):[^=\n]*## \S", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert make_targets() == explained
