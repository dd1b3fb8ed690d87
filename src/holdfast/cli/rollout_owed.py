"""Say what of a collection is owed: how many, which, and why.

With --input and --rollouts it looks at files of other programs: rows are matched by what identifies their prompt, and
the prompts that lack some are written to --output.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from holdfast.cli.tokens import positive

if TYPE_CHECKING:
    from holdfast.core.record import Record
    from holdfast.core.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="a collection, or its config")
    parser.add_argument("--json", action="store_true", help="all prompts that owe something, as JSON")
    group = parser.add_argument_group("files of other programs")
    group.add_argument("--input", metavar="FILE", help="the prompt set, JSON lines")
    group.add_argument("--rollouts", metavar="FILE", help="what was collected, JSON lines")
    group.add_argument("--target-repeats", type=positive, default=16, metavar="N", help="of each prompt (default: 16)")
    group.add_argument("--output", metavar="FILE", help="write the prompts that lack some, as they are in the set")
    group.add_argument("--each", action="store_true", help="write one line for every rollout that is missing")


def run(options: argparse.Namespace) -> int:
    import json

    from holdfast.core.errors import UserError

    if options.input or options.rollouts or options.output:
        return _foreign(options)
    if options.name is None:
        raise UserError("nobody said which collection", "holdfast rollout owed NAME")
    from holdfast.execute.scheduler import open_store
    from holdfast.pipelines.rollouts import owed

    store = open_store(options.root)
    found = owed.look(_record(options.name, store), store)
    if options.json:
        print(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
    else:
        print("\n".join(owed.lines(found)))
    return 3 if found.owed else 0


def _record(name: str, store: Store) -> Record:
    from pathlib import Path

    from holdfast.execute.choose import cluster_defaults
    from holdfast.pipelines import stored
    from holdfast.pipelines.rollouts import planner
    from holdfast.pipelines.rollouts.request import Request

    if stored.is_plan_file(name):
        return planner.plan(Request(Path(name)), cluster_defaults(), store).record
    return store.find(name)


def _foreign(options: argparse.Namespace) -> int:
    import json
    import sys
    from pathlib import Path

    from holdfast.core.errors import UserError
    from holdfast.rollouts import foreign

    if not (options.input and options.rollouts):
        raise UserError("of other programs' files two are needed", "give --input PROMPTS and --rollouts ROLLOUTS")
    if options.name is not None:
        raise UserError(f"both a collection, `{options.name}`, and files are given", "give one of them")
    prompts = Path(options.input)
    found = foreign.remaining(prompts, Path(options.rollouts), options.target_repeats)
    if options.output:
        count = foreign.write_remaining(found, prompts, Path(options.output), each=options.each)
        print(f"{count:,} lines written to {options.output}", file=sys.stderr)
    print(json.dumps(found.as_dict(), indent=1) if options.json else "\n".join(foreign.lines(found)))
    return 3 if found.missing else 0
