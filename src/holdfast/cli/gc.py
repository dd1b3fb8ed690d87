"""Delete what nothing needs: temporaries of dead writers, old logs, snapshots of code, results that were made anew."""

from __future__ import annotations

import argparse

from holdfast.cli.tokens import count, not_negative


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry", action="store_true", help="print what would be deleted")
    parser.add_argument(
        "--days",
        type=not_negative,
        default=7.0,
        metavar="N",
        help="attempts and snapshots younger than this stay (default: 7)",
    )
    parser.add_argument(
        "--keep", type=count, default=2, metavar="N", help="newest attempts of a stage that stay (default: 2)"
    )
    parser.add_argument("--json", action="store_true", help="the list as JSON")


def run(options: argparse.Namespace) -> int:
    import json
    import sys

    from holdfast.core import files
    from holdfast.execute import cache, stop
    from holdfast.execute.scheduler import open_store

    store = open_store(options.root)
    rubbish = stop.rubbish(store, attempts_older_than=options.days * 86400, keep=options.keep)
    found = [(path, stop.size(path)) for path in (*rubbish, *cache.superfluous(store, cache.entries(store)))]
    if options.json:
        print(
            json.dumps([{"path": str(path.relative_to(store.root)), "bytes": size} for path, size in found], indent=1)
        )
    else:
        print("\n".join(f"{size:>12,}  {path.relative_to(store.root)}" for path, size in found) or "nothing to delete")
    if not options.dry:
        for path, _ in found:
            files.discard(path)
    verb = "would be deleted" if options.dry else "deleted"
    print(f"{len(found)} {verb}, {sum(size for _, size in found) / 1e6:.1f} MB", file=sys.stderr)
    return 0
