"""Crashes a conversion once at each of its boundaries: `crash_conversion.py CHECKPOINT DIRECTORY EVERY`.

As `crash.py`: the claim, the copying of bytes by several threads, the digests, the publication; in one process each.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ["HF_HUB_OFFLINE"] = "1"

from tests.faults.conversions import Site, age, payload
from tests.faults.crash import Scenario, fork, main

from holdfast.core import artifact, attempt, files
from holdfast.core.plan import Reader, State
from holdfast.core.store import Store
from holdfast.execute import cache, stop
from holdfast.pipelines import conversion
from holdfast.pipelines.conversion import Conversion, Wish
from holdfast.stages import __main__ as stages

CHECKPOINT = Path(sys.argv[1])
TRIED = Path(sys.argv[2]) / "tried.json"
"""The bytes of a conversion that nobody disturbed."""


def plan(root: Path) -> Conversion:
    return conversion.plan(Wish(CHECKPOINT), Store(root))


def prepare(root: Path) -> None:
    store, planned = Store(root), plan(root)
    store.write(planned.plan())
    for record in planned.adopted:
        store.adopt(record)


def convert(root: Path) -> None:
    """What a supervisor has done, in this process."""
    store = Store(root)
    (record,) = plan(root).plan()
    home = store.home(record)
    if artifact.holds(home, record.key):
        return
    claim = attempt.take(store.attempts(record.key), "job", exclusive=False)
    out = home.with_name(f"{files.TEMPORARY}{claim.token}")
    files.make_directories(out)
    os.environ.update(
        HOLDFAST_ROOT=str(root),
        HOLDFAST_ATTEMPT_NUMBER=str(claim.n),
        HOLDFAST_ATTEMPT=claim.token,
        HOLDFAST_OUT=str(out),
        HOLDFAST_RECORD=str(claim.directory),
    )
    assert stages.main(["run", record.key]) == 0
    assert stages.main(["finish", record.key]) == 0
    attempt.end(claim, "complete", "")
    files.discard(out)


def whole_or_absent(root: Path) -> None:
    standing = Reader(Store(root)).standing(next(iter(plan(root).plan())))
    assert standing.state in (State.COMPLETE, State.OWED), standing
    assert Site(root, CHECKPOINT).homes == [] or standing.state is State.COMPLETE
    if standing.state is State.COMPLETE:
        Site(root, CHECKPOINT).check(json.loads(TRIED.read_text()))


def whole_and_alone(root: Path) -> None:
    store, site = Store(root), Site(root, CHECKPOINT)
    site.check(json.loads(TRIED.read_text()))
    age(root)
    for path in (
        *stop.rubbish(store, attempts_older_than=604800, keep=2),
        *cache.superfluous(store, cache.entries(store)),
    ):
        files.discard(path)
    assert sorted(path.name for path in site.folder.iterdir()) == sorted([os.readlink(site.home), site.home.name])


def try_it(root: Path) -> None:
    """Once without a crash, to know the bytes."""
    prepare(root)
    convert(root)
    TRIED.write_text(json.dumps(payload(Site(root, CHECKPOINT).home)))


if __name__ == "__main__":
    directory = Path(sys.argv[2])
    (directory / "tried").mkdir()
    # In a child, as all work here: a digest starts threads, and a process that has some cannot be forked.
    assert fork(lambda: try_it(directory / "tried")) == 0
    sys.exit(main(Scenario(prepare, convert, whole_or_absent, whole_and_alone), directory, int(sys.argv[3])))
