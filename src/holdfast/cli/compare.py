"""Say whether one evaluation is better than another, on the same prompts, and how sure that is."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="+", metavar="NAME", help="names, homes or keys of evaluations, or directories; the first is A"
    )
    parser.add_argument(
        "--metric", metavar="NAME", default="accuracy", help="accuracy (default), pass@K, pass^K, maj@K or best@K"
    )
    parser.add_argument("--force", action="store_true", help="although the data or the verifier differ")
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def run(options: argparse.Namespace) -> int:
    import json

    from holdfast.cli import talk
    from holdfast.core.errors import UserError
    from holdfast.execute.scheduler import open_store
    from holdfast.pipelines import side_by_side

    if len(options.name) < 2:
        raise UserError("one evaluation is named, and there is nothing to compare it with", "holdfast compare A B")
    store = open_store(options.root)
    evaluations = [side_by_side.read(name, store) for name in options.name]
    found = side_by_side.compare(evaluations, options.metric, force=options.force)
    talk.notes(side_by_side.notes(found))
    if options.json:
        print(json.dumps(side_by_side.as_json(found), indent=1, ensure_ascii=False))
    else:
        print("\n".join(side_by_side.lines(found)))
    return 0
