"""List the converted checkpoints that are kept, pin them, and take out what was not used for long.

What is taken out is not lost: it is converted again when something needs it.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from holdfast.cli.tokens import not_negative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.record import Record
    from holdfast.core.store import Store
    from holdfast.execute.cache import Entry

UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    listing = verbs.add_parser("ls", help="what there is: size, last use, pins", allow_abbrev=False)
    listing.add_argument("--json", action="store_true", help="the list as JSON")
    clean = verbs.add_parser("gc", help="take out what may go, and generations that no longer count")
    clean.add_argument("--quota", type=_bytes, metavar="SIZE", help="keep at most this much, such as 500G or 1.5T")
    clean.add_argument("--unused", type=not_negative, metavar="DAYS", help="take out what no stage read for so long")
    clean.add_argument("--dry", action="store_true", help="print what would go")
    clean.add_argument("--json", action="store_true", help="the list as JSON")
    keep = verbs.add_parser("pin", help="keep these whatever the quota is")
    keep.add_argument("name", nargs="+", metavar="NAME", help="names, homes or keys")
    keep.add_argument("--reason", default="no reason given", metavar="TEXT", help="kept with the pin")
    free = verbs.add_parser("unpin", help="let these go again")
    free.add_argument("name", nargs="+", metavar="NAME", help="names, homes or keys")
    for each in (listing, clean, keep, free):
        each.add_argument("--root", metavar="DIR", default=argparse.SUPPRESS, help="as before the verb")


def _bytes(text: str) -> int:
    """`500G` in bytes; units are powers of 1000, as in the sizes of disks and models."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text, re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 500G or 1.5T")
    return int(float(match[1]) * UNITS[match[2].upper()])


def run(options: argparse.Namespace) -> int:
    from holdfast.execute import cache
    from holdfast.execute.scheduler import open_store

    store = open_store(options.root)
    if options.what == "gc":
        return _clean(options, store)
    if options.what == "ls":
        _show(cache.entries(store), as_json=options.json)
        return 0
    records = _named(options.name, store)
    if options.what == "pin":
        cache.pin(store, records, options.reason)
    else:
        cache.unpin(store, records)
    return 0


def _named(names: Sequence[str], store: Store) -> list[Record]:
    """What is meant: conversions also by their name without the hash, which may be several."""
    from holdfast.execute import cache
    from holdfast.pipelines import stored

    cached = [entry.record for entry in cache.entries(store)]
    found = []
    for name in names:
        alike = [record for record in cached if record.name.rpartition("_")[0] == name]
        found += alike or stored.records_of([name], store)
    return found


def _show(found: Sequence[Entry], *, as_json: bool) -> None:
    import json
    import time

    if as_json:
        print(json.dumps([entry.as_dict() for entry in found], indent=1, ensure_ascii=False))
        return
    if not found:
        print("nothing is cached here")
        return
    width = max(len(entry.record.home) for entry in found)
    for entry in found:
        days = (time.time() - entry.used) / 86400
        words = [f"pinned {entry.pinned}"] if entry.pinned else []
        words += ["in use"] if entry.is_read else []
        words += [f"{len(entry.older)} older generations"] if entry.older else []
        row = f"{entry.record.home.ljust(width)}  {entry.standing.state:<9} {entry.bytes:>16,}  {days:>6.1f} days ago  "
        print((row + "; ".join(words)).rstrip())
    print(f"\n{len(found)} conversions, {sum(entry.bytes for entry in found):,} bytes")


def _clean(options: argparse.Namespace, store: Store) -> int:
    import json
    import sys

    from holdfast.core import files
    from holdfast.execute import cache, stop

    found = cache.entries(store)
    seconds = None if options.unused is None else options.unused * 86400
    chosen = cache.choose(found, quota=options.quota, unused_for=seconds)
    old = [(path, stop.size(path)) for path in cache.superfluous(store, found)]
    why = f"quota {options.quota:,} bytes" if options.quota is not None else f"unused for {options.unused} days"
    gone = [entry for entry in chosen if options.dry or cache.evict(store, entry, why)]
    if not options.dry:
        for path, _ in old:
            files.discard(path)
    listed = [(entry.record.home, entry.bytes) for entry in gone]
    listed += [(str(path.relative_to(store.root)), size) for path, size in old]
    if options.json:
        print(json.dumps([{"path": path, "bytes": size} for path, size in listed], indent=1))
    else:
        print("\n".join(f"{size:>16,}  {path}" for path, size in listed) or "nothing goes")
    verb = "would go" if options.dry else "went"
    print(f"{len(listed)} {verb}, {sum(size for _, size in listed) / 1e6:.1f} MB", file=sys.stderr)
    return 0
