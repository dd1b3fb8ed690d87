"""Say what rollouts are worth: a report with intervals and figures; of two, whether B is better than A."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from holdfast.cli.tokens import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path",
        nargs="+",
        metavar="NAME",
        help="name, home, key, directory or file of rollouts (ours, NeMo Gym's, the document's); two are compared",
    )
    parser.add_argument("--by", metavar="FIELD,...", default="", help="also by these fields: dim_board,box_type")
    parser.add_argument("--prompts", type=positive, metavar="N", help="how many prompts were wanted")
    parser.add_argument("--repeats", type=positive, metavar="N", help="how many rollouts of each; more do not count")
    parser.add_argument("--k", type=positive, nargs="+", default=[], metavar="K", help="the k of pass@k and others")
    parser.add_argument("--out", metavar="DIR", help="where the report goes (default: beside the rollouts)")
    parser.add_argument("--json", action="store_true", help="everything as JSON on stdout, and write no file")


def run(options: argparse.Namespace) -> int:
    from holdfast.core.errors import UserError

    if len(options.path) > 2:
        raise UserError(f"{len(options.path)} paths are named: it takes one, or two to compare", "rollout analyze A B")
    return _report(options) if len(options.path) == 1 else _compare(options)


def _report(options: argparse.Namespace) -> int:
    from holdfast.cli import talk
    from holdfast.pipelines import rollout_analysis

    rows = rollout_analysis.find(options.path[0], _root(options))
    analysis = rollout_analysis.analyse(rows, **_given(options))
    talk.notes(rollout_analysis.notes(analysis.content))
    if options.json:
        print(rollout_analysis.as_json(analysis))
        return 0
    written = rollout_analysis.write(analysis, Path(options.out) if options.out else rows.out, rows.stem)
    print("\n".join([*rollout_analysis.lines(analysis.content), ""]))
    for path in written[-2:]:
        print(path)
    return 0


def _compare(options: argparse.Namespace) -> int:
    import json

    from holdfast.cli import talk
    from holdfast.core.errors import UserError
    from holdfast.pipelines import rollout_analysis

    chosen = [rollout_analysis.find(path, _root(options)) for path in options.path]
    analyses = [rollout_analysis.analyse(each, **_given(options)) for each in chosen]

    from holdfast.evaluation.analysis import paired

    sides = [paired.Side(rows.name, analysis) for rows, analysis in zip(chosen, analyses, strict=True)]
    try:
        found = paired.compare(*sides)
    except ValueError as error:
        says = f"{options.path[0]} and {options.path[1]} cannot be compared: {error}"
        raise UserError(says, "compare rollouts of the same prompts") from None
    talk.notes(paired.notes(found))
    print(json.dumps(found, indent=1) if options.json else "\n".join(paired.lines(found)))
    return 0


def _root(options: argparse.Namespace) -> Path | None:
    root: Path | None = getattr(options, "root", None)
    return root


def _given(options: argparse.Namespace) -> Any:
    by = [name.strip() for name in options.by.split(",")] if options.by else []
    return {"by": by, "prompts": options.prompts, "repeats": options.repeats, "ks": options.k}
