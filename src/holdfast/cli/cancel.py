"""Stop stages that are queued or running; training saves first."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", metavar="NAME", help="names, homes or keys of stages")
    parser.add_argument("--all", action="store_true", help="everything of this root that is in flight")
    parser.add_argument("--wait", action="store_true", help="stay until they have ended")
    parser.add_argument(
        "--declare-dead",
        action="store_true",
        help="you know that the host of an attempt is gone, and nobody can prove it: free the stage",
    )


def run(options: argparse.Namespace) -> int:
    from holdfast.cli import progress, table
    from holdfast.core.errors import UserError
    from holdfast.core.plan import IN_FLIGHT
    from holdfast.execute import stop
    from holdfast.execute.scheduler import open_store
    from holdfast.pipelines import stored

    if not options.name and not options.all:
        raise UserError("nothing to cancel: no name was given", "give names, or --all")
    store = open_store(options.root)
    found = stored.standings_of(options.name, store)
    if options.declare_dead:
        for standing in found:
            stop.declare_dead(store, standing)
    else:
        stop.cancel(store, found)
    asked = sum(standing.state in IN_FLIGHT for standing in found)
    say = f"{asked} in flight: asked to save and end" if asked else "nothing of it is in flight"
    print(say + ("" if options.wait or not asked else "; --wait stays until then"), file=sys.stderr)
    if options.wait:
        progress.watch(lambda: stored.standings_of(options.name, store), interval=0.5)
    table.show(stored.standings_of(options.name, store), as_json=False)
    return 0
