"""Crashes a piece of work once at each of its boundaries: `crash.py SCENARIO DIRECTORY`.

One process loads the package and forks a child for each crash, which saves the start of an interpreter a thousand
times; the child is ended by a real SIGKILL. Another child then looks at what is left and does the same work again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "shim"))

from sitecustomize import Boundaries  # type: ignore[import-not-found]  # found by the line above

from holdfast.core import artifact, attempt, files, generations
from holdfast.core.attempt import Life
from holdfast.core.job import Job
from holdfast.core.kind import load
from holdfast.core.output import Output
from holdfast.core.plan import Plan, Reader, State, standings
from holdfast.core.record import Record
from holdfast.core.stage import Ref
from holdfast.core.store import Store
from holdfast.execute import stop
from holdfast.execute.submit import Placement, submit
from holdfast.rollouts.collection import Collection, Sample

KEY = "k" * 64
PROMPTS = ["p", "q", "r"]
REPEATS = 2
CONTENTS = {"weights.bin": b"w" * 70000, "inner/config.json": b"{}"}


@dataclass(frozen=True)
class Scenario:
    """`prepare` before anything is counted; `act` is crashed and then done again; `left` looks at what a crash left;
    `final` at the end.
    """

    prepare: Callable[[Path], None]
    act: Callable[[Path], None]
    left: Callable[[Path], None]
    final: Callable[[Path], None]


def nothing(_: Path) -> None:
    pass


def fill(directory: Path) -> None:
    for name, data in CONTENTS.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)


def check_whole(home: Path, path: str = "") -> None:
    manifest = artifact.holds(home, KEY, path)
    assert manifest, f"no manifest in {home}"
    assert artifact.verify(home, manifest, digests=True) == []
    assert {file.path for file in manifest.files} == set(CONTENTS)


def publish_sealed(root: Path) -> None:
    built = root / f"{files.TEMPORARY}{files.new_token()}"
    built.mkdir()
    fill(built)
    artifact.publish(built, root / "runs" / "home", artifact.seal(built, {"key": KEY}))


def publish_generation(root: Path, replaces: str = "") -> None:
    built = root / "runs" / f"{files.TEMPORARY}{files.new_token()}"
    built.mkdir(parents=True)
    fill(built)
    generations.publish(built, root / "runs" / "home", artifact.seal(built, {"key": KEY}), replaces)


def replace_generation(root: Path) -> None:
    publish_generation(root, ".home.g1")


def sealed_is_whole_or_absent(root: Path) -> None:
    if os.path.lexists(root / "runs" / "home"):
        check_whole(root / "runs" / "home")


def sealed_is_whole(root: Path) -> None:
    check_whole(root / "runs" / "home")


def home_is_whole(root: Path) -> None:
    check_whole(root / "home")


def publish_in_place(root: Path) -> None:
    fill(root / "home")
    artifact.publish_in_place(root / "home", artifact.seal(root / "home", {"key": KEY}))


def manifest_is_whole_or_absent(root: Path) -> None:
    if os.path.lexists(root / "home" / artifact.MANIFEST):
        check_whole(root / "home")


def take(root: Path) -> None:
    attempt.take(root / "attempts", "job", exclusive=True)


def claims_are_whole_and_dead(root: Path) -> None:
    for claim in attempt.every(root / "attempts"):
        assert attempt.judge(claim, attempt.Census()).life is Life.DEAD


def last_claim_is_open(root: Path) -> None:
    found = attempt.every(root / "attempts")
    assert found[-1].ending() is None
    assert all((claim.ending() or {})["outcome"] == "died" for claim in found[:-1])


def end(root: Path) -> None:
    last = attempt.newest(root / "attempts")
    assert last
    attempt.end(last, "failed", "the disk was full", code=1)


def ending_is_whole_or_absent(root: Path) -> None:
    last = attempt.newest(root / "attempts")
    assert last
    ending = last.ending()
    assert ending is None or (ending["outcome"], ending["code"]) == ("failed", 1)


def ended(root: Path) -> None:
    ending_is_whole_or_absent(root)
    assert attempt.every(root / "attempts")[-1].ending()


def checkpoint(root: Path) -> None:
    with output(root).artifact("steps/step_1") as directory:
        fill(directory)


def output(root: Path) -> Output:
    record = root / "record"
    return Output(
        root / "home",
        key=KEY,
        attempt=1,
        token="t" * 16,
        record=record,
        collections=root / "c",
        environ={},
        input_digests={},
    )


def checkpoints_verify(root: Path) -> None:
    found = output(root).artifacts("steps")
    for home in found:
        check_whole(home, f"steps/{home.name}")
    assert not list(root.glob("home/steps/*.bad-*"))


def one_checkpoint(root: Path) -> None:
    checkpoints_verify(root)
    assert [home.name for home in output(root).artifacts("steps")] == ["step_1"]


def make_plan() -> Plan:
    command = load("command")
    first = Record(command.stage({"command": ["true"]}), "first", "first")
    second = Record(command.stage({"command": ["false"]}, {"x": Ref(first.key)}), "second", "group/second")
    return Plan([first, second])


class Noted:
    """An executor that writes down which jobs it was handed."""

    def start(self, directory: Path, job: Job) -> None:
        with open(Path(job.root) / "started", "a") as file:
            file.write(f"{directory.name}\n")


def submit_plan(root: Path) -> None:
    submit(make_plan(), Store(root), Noted(), Placement())


def all_owed(root: Path) -> None:
    for standing in standings(make_plan(), Store(root)):
        assert standing.state is State.OWED, standing
        assert standing.reason.startswith("never started"), standing


def submitted(root: Path) -> None:
    started = (root / "started").read_text().split()
    job = Job.read(Store(root).job(started[-1]))
    assert [task.name for task in job.tasks] == ["first", "second"]
    store = Store(root)
    for record in make_plan():
        assert store.read(record.key).home == record.home
        assert store.owner(record.home) == record.key


def complete_first(root: Path) -> None:
    store, record = Store(root), next(iter(make_plan()))
    store.write([record])
    home = store.home(record)
    home.mkdir()
    (home / "result").write_text("old")
    claim = attempt.take(store.attempts(record.key), "job", exclusive=True)
    artifact.publish_in_place(home, artifact.seal(home, {"key": record.key, "attempt": 1, "inputs": {}}))
    attempt.end(claim, "complete", "")


def rerun(root: Path) -> None:
    plan = Plan([next(iter(make_plan()))])
    submit(plan, Store(root), Noted(), Placement(), [record.key for record in plan])


def old_result_is_kept(root: Path) -> None:
    homes = [*root.glob("first/result"), *root.glob("first.old-*/result")]
    assert [home.read_text() for home in homes] == ["old"]


def rerun_started(root: Path) -> None:
    old_result_is_kept(root)
    assert not (root / "first").exists()
    assert (root / "started").exists()


def remove(root: Path) -> None:
    record = next(iter(make_plan()))
    stop.remove(Store(root), record, "not needed")


def complete_or_lost(root: Path) -> None:
    standing = Reader(Store(root)).standing(next(iter(make_plan())))
    assert standing.state in (State.COMPLETE, State.LOST), standing
    if standing.state is State.LOST:
        assert "not needed" in standing.reason


def is_lost(root: Path) -> None:
    complete_or_lost(root)
    assert not (root / "first").exists()


def collect_rows(root: Path) -> None:
    """Record what is owed, and note outside of all that is counted what was acknowledged."""
    (root / "parts").mkdir(exist_ok=True)
    collection = Collection(root / "parts", len(list((root / "parts").iterdir())) + 1, files.new_token())
    for each in collection.index(PROMPTS, REPEATS).owed():
        row = {"id": each.sample.id, "repeat": each.sample.repeat, "reward": 1.0, "timing": {"finished": 1.0}}
        collection.append(row)
        with open(root / "acknowledged", "a") as note:
            note.write(f"{each.sample}\n")
    collection.close()


def rows_in(root: Path) -> list[Sample]:
    """What is recorded, as often as it is."""
    lines = [line for part in root.glob("parts/*.jsonl") for line in part.read_text().split("\n")[:-1]]
    return [Sample(row["id"], row["repeat"]) for row in map(json.loads, lines)]


def acknowledged_rows_are_there_once(root: Path) -> None:
    found = [str(sample) for sample in rows_in(root)]
    noted = (root / "acknowledged").read_text().splitlines() if (root / "acknowledged").exists() else []
    assert set(noted) <= set(found) and len(found) == len(set(found)), (noted, found)


def every_row_is_there_once(root: Path) -> None:
    acknowledged_rows_are_there_once(root)
    index = Collection(root / "parts", 99, "reader").index(PROMPTS, REPEATS)
    assert index.done == index.wanted == len(list(index.rows())) == len(PROMPTS) * REPEATS
    index.close()


SCENARIOS = {
    "publish_sealed": Scenario(
        nothing, publish_sealed, sealed_is_whole_or_absent, lambda r: check_whole(r / "runs/home")
    ),
    "first_generation": Scenario(nothing, publish_generation, sealed_is_whole_or_absent, sealed_is_whole),
    "next_generation": Scenario(publish_generation, replace_generation, sealed_is_whole, sealed_is_whole),
    "publish_in_place": Scenario(
        nothing, publish_in_place, manifest_is_whole_or_absent, lambda r: check_whole(r / "home")
    ),
    "claim": Scenario(nothing, take, claims_are_whole_and_dead, nothing),
    "exit_record": Scenario(take, end, ending_is_whole_or_absent, ended),
    "checkpoint": Scenario(lambda r: (r / "record").mkdir(), checkpoint, checkpoints_verify, one_checkpoint),
    "submit": Scenario(nothing, submit_plan, all_owed, submitted),
    "rerun": Scenario(complete_first, rerun, old_result_is_kept, rerun_started),
    "rows": Scenario(nothing, collect_rows, acknowledged_rows_are_there_once, every_row_is_there_once),
    "remove": Scenario(complete_first, remove, complete_or_lost, is_lost),
}


def fork(work: Callable[[], None]) -> int:
    """Do `work` in a child; the exit status as waitpid gives it."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            # Also after an error, which is printed here: this is a copy of the process, and must not go on as it does.
            failed = sys.exc_info()[0] is not None
            if failed:
                traceback.print_exc()
            os._exit(failed)
    return os.waitpid(pid, 0)[1]


def counted(act: Callable[[Path], None], root: Path, **variables: str) -> None:
    Boundaries({"CRASH_ROOT": f"{root}/", **variables}, "scenario").install()
    act(root)


def main(scenario: Scenario, directory: Path, every: int = 1) -> int:
    """Crash the scenario at each boundary, or `every` so manieth; prints what they are."""
    listing = directory / "list"
    fresh(directory / "listed", scenario)
    done = fork(lambda: counted(scenario.act, directory / "listed", CRASH_LIST=str(listing)))
    if done != 0 or fork(lambda: scenario.final(directory / "listed")) != 0:
        return 1
    boundaries = listing.read_text().splitlines()
    for number, boundary in list(enumerate(boundaries))[::every]:
        for when in ("before", "after"):
            if not crash(scenario, directory / "root", f"{number}.{when}"):
                print(f"crashed {when} boundary {boundary}", file=sys.stderr)
                return 1
    print(json.dumps(boundaries))
    return 0


def fresh(root: Path, scenario: Scenario) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    assert fork(lambda: scenario.prepare(root)) == 0


def crash(scenario: Scenario, root: Path, at: str) -> bool:
    """Crash there, look at what is left, do it again, look at the end."""
    fresh(root, scenario)
    status = fork(lambda: counted(scenario.act, root, CRASH_AT=at))
    if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        print(f"did not crash at {at}: status {status}", file=sys.stderr)
        return False

    def look_and_repeat() -> None:
        scenario.left(root)
        scenario.act(root)
        scenario.final(root)

    return fork(look_and_repeat) == 0


if __name__ == "__main__":
    sys.exit(main(SCENARIOS[sys.argv[1]], Path(sys.argv[2])))
