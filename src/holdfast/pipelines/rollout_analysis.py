"""The view of rollouts: `reward_analysis.md`, its figures, one HTML file, and a table of all prompts.

A pure function of the rows, wherever they are: a published rollouts.jsonl, the parts of an unfinished collection, a
file of NeMo Gym's or of the document's. Every file is replaced as a whole, and nothing depends on it.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.core import files
from holdfast.core.errors import DamagedFile, UnreadableFile, UserError
from holdfast.core.leaves import leaves

if TYPE_CHECKING:
    from holdfast.evaluation.analysis.coverage import Expected
    from holdfast.evaluation.analysis.summary import Analysis

FOLDER = "rollouts"
"""Where homes of rollouts are, below a root."""
ROWS = ("rollouts.jsonl", "rows.jsonl")
FAILURES, METRICS, PARTS = "failures.jsonl", "metrics.json", "parts"
GYM_FAILURES, GYM_INPUTS = "_failures.jsonl", "_materialized_inputs.jsonl"
"""What NeMo Gym's collector puts beside its output, after the output's stem."""
REPORT = "reward_analysis"


@dataclass(frozen=True)
class Rows:
    """What is analysed: the files in the order in which they count, where the report goes and how its files begin."""

    name: str
    paths: Sequence[Path]
    out: Path
    stem: str = REPORT
    prompts: int | None = None
    repeats: int | None = None
    said_by: str = ""
    identity: Mapping[str, Any] = field(default_factory=dict)


def find(text: str, root: Path | None = None) -> Rows:
    """What a person means: a file of rows, a published directory, a collection or its `parts`; or, by name, home or
    key, rollouts of this root, complete or not.

    Raises:
        UserError: there is nothing of the kind.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return _file(text, path)
    if path.is_dir():
        return _directory(text, path)
    if root is None or not (root / ".holdfast").is_dir():
        raise UserError(f"{text} is neither a file nor a directory", "name a rollouts.jsonl, or where one is")
    return _named(text, root)


def _named(text: str, root: Path) -> Rows:
    from holdfast.core import artifact
    from holdfast.core.store import Store

    store = Store(root)
    below = store.owner(f"{FOLDER}/{text}")
    record = store.read(below) if below else store.find(text)
    home = store.home(record)
    if artifact.holds(home, record.key):
        return _directory(text, home)
    from holdfast.pipelines.rollouts import owed

    found = owed.look(record, store)
    parts = owed.rows_of(record, store)
    if not parts.is_dir():
        raise UserError(f"`{record.name}` has no rollouts yet", f"holdfast why {record.name}")
    prompts = found.wanted // found.repeats
    return of_parts(text, parts, prompts=prompts, repeats=found.repeats, said_by=f"the collection `{record.name}`")


def _directory(text: str, path: Path) -> Rows:
    for name in ROWS:
        if (path / name).is_file():
            return _home(text, path, name)
    parts = path if path.name == PARTS else path / PARTS
    if not parts.is_dir() or not any(parts.glob("*.jsonl")):
        raise UserError(f"{text} has no {ROWS[0]}, no {ROWS[1]} and no {PARTS}/*.jsonl", "name the file itself")
    return of_parts(text, parts)


def of_parts(
    name: str,
    parts: Path,
    *,
    prompts: int | None = None,
    repeats: int | None = None,
    said_by: str = "",
    identity: Mapping[str, Any] | None = None,
) -> Rows:
    """An unfinished collection, of which the caller may know how much is wanted; the report goes beside `parts`."""
    found = sorted(parts.glob("*.jsonl"))
    known = leaves(identity or {})
    return Rows(name, found, parts.parent, REPORT, prompts, repeats, said_by, known)


def _file(text: str, path: Path) -> Rows:
    """With what NeMo Gym put beside it. A report on a file of another name has that name, so that two of them can lie
    in one directory.
    """
    stem = REPORT if path.name in ROWS else f"{path.stem}_{REPORT}"
    beside = path.with_name(path.stem + GYM_FAILURES)
    own = path.with_name(FAILURES) if path.name in ROWS else beside
    paths = [path, *(each for each in dict.fromkeys((beside, own)) if each.is_file())]
    inputs = path.with_name(path.stem + GYM_INPUTS)
    said = _gym_inputs(inputs) if inputs.is_file() else {}
    return Rows(text, paths, path.absolute().parent, stem, **said)


def _gym_inputs(path: Path) -> dict[str, Any]:
    """How much NeMo Gym was asked for: a line for each rollout."""
    tasks: set[Any] = set()
    lines = 0
    with open(path, "rb") as file:
        for line in file:
            try:
                tasks.add(json.loads(line)["_ng_task_index"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            lines += 1
    if not tasks or lines % len(tasks):
        return {}
    return {"prompts": len(tasks), "repeats": lines // len(tasks), "said_by": path.name}


def _home(text: str, home: Path, name: str) -> Rows:
    """A published directory, whose `metrics.json` says how much was wanted, where there is one."""
    paths = [home / name, *([home / FAILURES] if (home / FAILURES).is_file() else [])]
    try:
        content = files.read_or_none(home / METRICS, "metrics") or {}
    except (DamagedFile, UnreadableFile):
        content = {}
    identity = content.get("identity")
    identity = leaves(identity) if isinstance(identity, dict) else {}
    wanted, repeats = (content.get("coverage") or {}).get("expected"), identity.get("repeats")
    if not (isinstance(wanted, int) and isinstance(repeats, int) and repeats > 0):
        return Rows(text, paths, home, identity=identity)
    return Rows(text, paths, home, REPORT, wanted // repeats, repeats, METRICS, identity)


def analyse(
    rows: Rows,
    *,
    by: Sequence[str] = (),
    prompts: int | None = None,
    repeats: int | None = None,
    ks: Sequence[int] = (),
) -> Analysis:
    """Read everything once. `prompts` and `repeats` are what was wanted, where the caller knows better.

    Raises:
        UserError: a file cannot be read or has no rollouts, or a library is missing.
        ConfigError: a field to break down by has no such name.
    """
    reading, summary = _load()
    table = reading.read(rows.paths, by)
    analysis: Analysis = summary.summarise(
        table,
        _expected(rows, prompts, repeats),
        ks=ks,
        identity=rows.identity,
        name_file=lambda path: os.path.relpath(path, rows.out),
    )
    return analysis


def _load() -> Any:
    try:
        import msgspec  # noqa: F401
        import numpy  # noqa: F401

        from holdfast.evaluation.analysis import reading, summary
    except ImportError as error:
        raise UserError(
            f"the analysis needs {error.name}, which is not installed", "pip install 'holdfast[rollouts]'"
        ) from None
    return reading, summary


def _expected(rows: Rows, prompts: int | None, repeats: int | None) -> Expected:
    from holdfast.evaluation.analysis.coverage import Expected

    given = [name for name, value in (("--prompts", prompts), ("--repeats", repeats)) if value is not None]
    said = " and ".join([*given, *([rows.said_by] if rows.said_by and len(given) < 2 else [])])
    return Expected(prompts or rows.prompts, repeats or rows.repeats, said)


def write(analysis: Analysis, out: Path, stem: str = REPORT) -> list[Path]:
    """`<stem>.md`, `<stem>.html`, `<stem>_prompts.csv` and a figure `<stem>_<name>.svg` each; the report comes last.

    Raises:
        OSError: they cannot be written.
    """
    from holdfast.evaluation.analysis import figures, markdown, page, plot

    drawings = figures.draw(analysis.content)
    contents = {f"{stem}_{name}.svg": plot.standalone(svg) for name, svg in drawings.items()}
    if analysis.prompts is not None:
        contents[f"{stem}_prompts.csv"] = _csv(analysis)
    contents[f"{stem}.html"] = page.render(analysis.content, analysis.prompts, drawings, "Reward analysis")
    links = {name: f"{stem}_{name}.svg" for name in drawings}
    contents[f"{stem}.md"] = markdown.render(analysis.content, analysis.prompts, links, f"{stem}_prompts.csv")
    files.make_directories(out.absolute())
    for name, text in contents.items():
        files.replace(out / name, text.encode(errors="backslashreplace"))
    return [out / name for name in contents]


def _csv(analysis: Analysis) -> str:
    from holdfast.evaluation.analysis.prompts import COLUMNS
    from holdfast.evaluation.analysis.words import plain

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    if analysis.prompts is not None:
        writer.writerows((plain(row[0], 10_000), *row[1:]) for row in analysis.prompts.rows())
    return text.getvalue()


def as_json(analysis: Analysis) -> str:
    """The content as JSON, which has no infinity."""
    return json.dumps(analysis.content, indent=1, ensure_ascii=True, allow_nan=False)


def lines(content: Mapping[str, Any]) -> list[str]:
    """What a person wants to know at once."""
    from holdfast.core.columns import align
    from holdfast.evaluation.analysis.words import between, number, several

    found = content["coverage"]
    told = f"{found['done']:,} of {several(found['expected'], 'rollout')}"
    told += f", {found['failed']:,} failed" if found["failed"] else ""
    if "metrics" not in content:
        return [f"{told}: none has a reward yet"]
    rows = [("metric", "value", "95% interval", "prompts")]
    rows += [
        (each["name"], number(each["value"]), between(each), str(each["n_prompts"])) for each in content["metrics"]
    ]
    return [told, "", *align(rows)]


def notes(content: Mapping[str, Any]) -> list[str]:
    """What was wrong in the files."""
    from holdfast.evaluation.analysis.words import plain, several

    told = []
    for each in content["sources"]:
        if each["bad_lines"]:
            first = each["bad"][0]
            why = f"the first is line {first['line']:,}: {plain(first['why'], 200)}"
            told.append(f"{plain(each['file'])}: {several(each['bad_lines'], 'line')} without a rollout, {why}")
        if each["torn"] is not None:
            told.append(f"{plain(each['file'])}: line {each['torn']:,} is torn, and does not count")
    if content["coverage"]["duplicates"]:
        told.append(f"{several(content['coverage']['duplicates'], 'row')} repeat a rollout: the first counts")
    return told
