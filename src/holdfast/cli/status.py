"""Show what is complete, in flight, or owed, and why; of a sweep, the values of its points."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.core.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="*", metavar="NAME", help="names, homes or keys, or a sweep (default: every stage of the root)"
    )
    parser.add_argument(
        "--watch", action="store_true", help="show it again every two seconds until nothing is in flight"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="a JSON list with key, name, kind, state, reason, attempt, job, progress, home",
    )
    parser.add_argument("--csv", action="store_true", help="a sweep's table as CSV")
    parser.add_argument("--figure", metavar="FILE", help="draw a sweep's values into this PNG")
    parser.add_argument("--metric", metavar="NAME", help="the metric of a sweep's table (default: the likeliest)")
    parser.add_argument("--lower", action="store_true", default=None, help="lower values of the metric are better")


def run(options: argparse.Namespace) -> int:
    from holdfast.cli import progress, table
    from holdfast.core.errors import UserError
    from holdfast.execute.scheduler import open_store
    from holdfast.pipelines import stored, sweeps

    store = open_store(options.root)
    if options.watch:
        progress.watch(lambda: stored.standings_of(options.name, store))
    if len(options.name) == 1 and (sweep := sweeps.named(store, options.name[0])):
        return _show_sweep(options, store, sweep)
    if options.csv or options.figure or options.metric:
        known = ", ".join(sweeps.names(store)) or "none"
        raise UserError("--csv, --figure and --metric are about one sweep, and no sweep is named", f"sweeps: {known}")
    found = stored.standings_of(options.name, store)
    table.show(found, as_json=options.json)
    return table.exit_code_of_what_is_owed(found)


def _show_sweep(options: argparse.Namespace, store: Store, name: str) -> int:
    import json
    from pathlib import Path

    from holdfast.cli import table
    from holdfast.pipelines import sweep_figure, sweep_results

    results = sweep_results.read(store, name, options.metric, lower_is_better=options.lower)
    found = [row.standing for row in results.rows]
    if options.figure:
        sweep_figure.draw(results, Path(options.figure))
    if options.json:
        print(json.dumps(sweep_results.as_rows(results), indent=1, ensure_ascii=False))
    elif options.csv:
        print(sweep_results.as_csv(results), end="")
    else:
        print("\n".join([*sweep_results.lines(results), "", table.summary(found)]))
    return table.exit_code_of_what_is_owed(found)
