"""Holds what every tracked file owes: nothing of one machine, nothing left undone, nothing huge."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
LARGEST = 512 * 1024
PICTURES = {".png", ".svg", ".gif", ".ico"}
# Written in pieces, so that this file passes its own test.
MACHINE = re.compile("|".join(rf"(?<![\w.}}$/-])/{name}/" for name in ("work", "root", "farm", "home/[a-z]+")))
UNDONE = re.compile("|".join(rf"\b{first}{rest}\b" for first, rest in (("TO", "DO"), ("FIX", "ME"), ("X", "XX"))))
ADDRESS = re.compile(r"(?i)(--(extra-)?index-url|--find-links|--trusted-host|files\.pythonhosted|pypi\.org/simple)")


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    files = (REPOSITORY / name for name in listing.stdout.decode().split("\0") if name)
    return [file for file in files if file.is_file()]


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """`file:line: text` of each match in the tracked text files."""
    found = []
    for file in tracked():
        if file.suffix in PICTURES or file.name == "LICENSE":
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{file.relative_to(REPOSITORY)}:{number}: {line.strip()[:120]}")
    return found


def test_no_file_names_a_place_on_one_machine() -> None:
    assert lines_with(MACHINE) == []


def test_no_file_names_a_registry() -> None:
    own = "tests/test_repository.py"
    assert [line for line in lines_with(ADDRESS) if not line.startswith(own)] == []


def test_nothing_is_left_undone() -> None:
    assert lines_with(UNDONE) == []


def test_no_file_is_huge() -> None:
    assert {str(file): file.stat().st_size for file in tracked() if file.stat().st_size > LARGEST} == {}


def test_source_files_stay_readable_in_one_go() -> None:
    sources = [file for file in tracked() if file.suffix == ".py" and "src" in file.relative_to(REPOSITORY).parts]
    lengths = {str(file.relative_to(REPOSITORY)): len(file.read_text().splitlines()) for file in sources}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_the_lock_names_versions_and_nothing_else() -> None:
    for lock in sorted((REPOSITORY / "requirements").glob("*.txt")):
        lines = [line for line in lock.read_text().splitlines() if not line.startswith("#")]
        assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []
