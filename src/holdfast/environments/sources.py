"""Rows of local files: JSON lines, JSON, CSV and Parquet, known by the digest of their contents.

The path is where they lie and not what they are: a copy elsewhere is the same data, and a changed file is other data.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core import near
from holdfast.core.artifact import digest_of
from holdfast.core.errors import UserError

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
LONGEST_CELL = 1 << 28


class Row(NamedTuple):
    """A row, and where it is, as a person finds it: `line 73 of problems.jsonl`."""

    where: str
    values: Mapping[str, Any]


def data_files(path: Path, split: str | None) -> list[Path]:
    """The file, or the data files of a directory, sorted; with a split, those that carry its name.

    Raises:
        UserError: there are none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        close = near.path(path)
        raise UserError(
            f"there is no data at {path.absolute()}",
            f"did you mean `{close}`?" if close else "give a file that is there",
        )
    found = sorted(each for each in path.rglob("*") if each.suffix in FORMATS and _is_visible(each, path))
    if not found:
        raise UserError(f"there is no data in {path.absolute()}", f"files that are read: *{', *'.join(FORMATS)}")
    named = [each for each in found if split and _is_of(each.relative_to(path), split)]
    if split and not named:
        there = near.listed(str(each.relative_to(path)) for each in found)
        raise UserError(f"no file in {path.absolute()} is of the split `{split}`", f"files there: {there}")
    return named or found


def _is_visible(file: Path, directory: Path) -> bool:
    return file.is_file() and not any(part.startswith(".") for part in file.relative_to(directory).parts)


def _is_of(file: Path, split: str) -> bool:
    """`test.jsonl`, `test-00000-of-00001.parquet` and `test/any.csv` are of the split test."""
    stem = file.name.partition(".")[0]
    return split in (stem, *file.parts[:-1]) or stem.startswith((f"{split}-", f"{split}_"))


def digest(files: Sequence[Path]) -> str:
    """Of the contents of all files, in their order."""
    return _together([digest_of(file) if file.stat().st_size else "empty" for file in files])


def _together(digests: Sequence[str]) -> str:
    return digests[0] if len(digests) == 1 else hashlib.sha256(json.dumps(list(digests)).encode()).hexdigest()


def read(files: Sequence[Path], file_format: str | None, split: str | None, expected: str | None) -> list[Row]:
    """All rows, in order.

    Raises:
        UserError: a file cannot be read as what it should be (with the line), or is not what `expected` is the digest
            of.
    """
    from blake3 import blake3

    contents = [file.read_bytes() for file in files]
    found = _together([blake3(content).hexdigest() if content else "empty" for content in contents])
    if expected and found != expected:
        raise UserError(
            f"{_names(files)} changed since the work was planned: digest {found[:12]}, planned {expected[:12]}",
            "put the file back, or type the command again: what is evaluated then is the new file",
        )
    return [
        row for file, content in zip(files, contents, strict=True) for row in _rows(file, content, file_format, split)
    ]


def _names(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"one of {len(files)} files in {files[0].parent}"


def _rows(file: Path, content: bytes, file_format: str | None, split: str | None) -> Iterator[Row]:
    form = FORMATS.get(file.suffix)
    if file_format and not (file_format == "json" and form == "jsonl"):
        form = file_format
    if form == "parquet":
        return _parquet_rows(file, content)
    text = _text(file, content)
    if form in ("csv", "tsv"):
        return _csv_rows(file, text, "\t" if form == "tsv" else ",")
    if form == "jsonl":
        return _json_line_rows(file, text)
    if form == "json":
        return _json_rows(file, text, split)
    raise UserError(f"nobody said what {file} holds", f"write `file_format`, one of {', '.join(set(FORMATS.values()))}")


def _text(file: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"line {line} of {file} is not UTF-8: {error.reason}", "convert it: iconv -t UTF-8") from None


def _json_line_rows(file: Path, text: str) -> Iterator[Row]:
    # Not splitlines(): U+2028 and its like may stand in a JSON string.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"line {number} of {file}"
            yield Row(where, _as_mapping(_parse(line, where), where))


def _json_rows(file: Path, text: str, split: str | None) -> Iterator[Row]:
    """A list of rows, a mapping from splits to such lists, or after all JSON lines."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from _json_line_rows(file, text)
            return
        raise UserError(f"line {error.lineno} of {file} is not JSON: {error.msg}", f"look at it: less {file}") from None
    if isinstance(content, dict) and (split in content or len(content) == 1):
        content = content[split] if split in content else next(iter(content.values()))
    if isinstance(content, dict):
        there = ", ".join(map(str, content))
        raise UserError(f"{file} holds one mapping, expected a list of rows", f"choose one with `split`: {there}")
    if not isinstance(content, list):
        raise UserError(f"{file} holds {type(content).__name__}, expected a list of rows", "one mapping for each row")
    for number, row in enumerate(content, 1):
        where = f"row {number} of {file}"
        yield Row(where, _as_mapping(row, where))


def _parse(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        says = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(f"{where} is not JSON: {says}: {line.strip()[:60]!r}", "correct that line") from None


def _as_mapping(row: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{where} is {type(row).__name__}, expected a mapping", "one mapping of columns for each row")
    return row


def _csv_rows(file: Path, text: str, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    try:
        names = next(reader, [])
        for cells in reader:
            if not cells:
                continue
            where = f"line {reader.line_num} of {file}"
            if len(cells) != len(names):
                raise UserError(f"{where} has {len(cells)} cells, the head has {len(names)}", "quote cells with commas")
            yield Row(where, dict(zip(names, cells, strict=True)))
    except csv.Error as error:
        raise UserError(f"line {reader.line_num} of {file} is not CSV: {error}", "correct that line") from None


def _parquet_rows(file: Path, content: bytes) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{file} is Parquet, and pyarrow is not there", "pip install 'holdfast[evals]'") from None
    try:
        rows = pyarrow.parquet.read_table(pyarrow.BufferReader(content)).to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"{file} is not Parquet: {' '.join(str(error).split())}", "look at its size: ls -l") from None
    for number, row in enumerate(rows, 1):
        yield Row(f"row {number} of {file}", row)
