"""`missing` says how work stands, whatever people and processes did to it before: checked against a model."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.core import artifact, attempt, files, process
from holdfast.core.attempt import Claim
from holdfast.core.errors import UserError
from holdfast.core.job import Job
from holdfast.core.kind import Kind, Params
from holdfast.core.output import Output
from holdfast.core.plan import Plan, Reader, State, missing, standings, submittable
from holdfast.core.process import Identity
from holdfast.core.record import Record
from holdfast.core.stage import Ref
from holdfast.core.store import Store
from holdfast.execute import stop
from holdfast.execute.submit import Placement, submit

DEAD = {"pid": 2**22 + 1, "start": "1"}


class MakeParams(Params):
    name: str


class Make(Kind):
    """Makes something out of nothing. Its version changes while the machine runs."""

    name = "make"
    Params = MakeParams
    exclusive = True

    def run(self, params: MakeParams, inputs: Mapping[str, Path], out: Output) -> None:
        """Nobody runs it: the machine plays the attempts itself."""


class Use(Make):
    """Makes something out of what `make` made."""

    name = "use"
    inputs = ("base",)


class Nobody:
    """Takes jobs and never runs them."""

    def start(self, directory: Path, job: Job) -> None:
        self.last = job


class Model:
    """What one stage ought to be."""

    def __init__(self) -> None:
        self.state = State.OWED
        self.built = 0
        self.used = 0


class Standings(RuleBasedStateMachine):
    """Two stages, `user` made of `base`, and everything that can happen to them."""

    NAMES: ClassVar = st.sampled_from(["base", "user"])

    @initialize()
    def begin(self) -> None:
        self.place = tempfile.TemporaryDirectory()
        self.store = Store(Path(self.place.name) / "root")
        Make.version = 1
        self.model = {"base": Model(), "user": Model()}
        self.content = 0
        self.submit()
        for model in self.model.values():
            model.state = State.QUEUED

    def plan(self) -> Plan:
        base = Record(Make().stage({"name": "base"}), "base", "base")
        return Plan([base, Record(Use().stage({"name": "user"}, {"base": Ref(base.key)}), "user", "user")])

    def record(self, name: str) -> Record:
        return next(record for record in self.plan() if record.name == name)

    def newest(self, name: str) -> Claim | None:
        return attempt.newest(self.store.attempts(self.record(name).key))

    def submit(self, *again: str) -> list[str]:
        keys = [self.record(name).key for name in again]
        done = submit(self.plan(), self.store, Nobody(), Placement(), keys)
        return [standing.record.name for standing in done.taken]

    @rule()
    def submit_what_is_owed(self) -> None:
        owed = [name for name, model in self.model.items() if model.state is State.OWED]
        assert self.submit() == owed
        for name in owed:
            self.model[name].state = State.QUEUED

    @rule(name=NAMES)
    def rebuild(self, name: str) -> None:
        if self.state(name) in (State.STALE, State.COMPLETE) and self.is_read(name):
            with pytest.raises(UserError, match="in flight and reads"):
                self.submit(name)
            return
        again = self.state(name) in (State.LOST, State.STALE, State.COMPLETE)
        owed = {each for each, model in self.model.items() if model.state is State.OWED}
        assert set(self.submit(name)) == owed | ({name} if again else set())
        for each in owed | ({name} if again else set()):
            self.model[each].state = State.QUEUED

    @rule()
    def job_ends(self) -> None:
        """Nobody works off any job any more."""
        for job in self.store.jobs.iterdir():
            (job / "ended.json").touch()
        for model in self.model.values():
            if model.state is State.QUEUED:
                model.state = State.OWED

    @rule(name=NAMES, lives=st.booleans())
    def claim(self, name: str, lives: bool) -> None:
        if self.model[name].state is not State.QUEUED:
            return
        place = attempt.newest(self.store.queued(self.record(name).key))
        assert place
        owner = process.current() if lives else Identity(**{**process.current().as_dict(), **DEAD})
        attempt.take(self.store.attempts(self.record(name).key), place.job, exclusive=True, owner=owner)
        self.model[name].state = State.RUNNING if lives else State.OWED

    @rule(name=NAMES, outcome=st.sampled_from(["failed", "stopped", "cancelled"]))
    def end(self, name: str, outcome: str) -> None:
        last = self.newest(name)
        if last and self.model[name].state is State.RUNNING:
            attempt.end(last, outcome, "because")
            self.model[name].state = State.OWED

    @rule(name=NAMES)
    def publish(self, name: str) -> None:
        last, model = self.newest(name), self.model[name]
        if last is None or model.state is not State.RUNNING:
            return
        record = self.record(name)
        inputs = {}
        if name == "user":
            digest = Reader(self.store, self.plan()).digest(record.stage.inputs["base"])
            if digest is None:
                return
            inputs = {"base": {"key": record.stage.inputs["base"].key, "digest": digest}}
            model.used = self.model["base"].built
        self.content += 1
        home = self.store.home(record)
        home.mkdir(exist_ok=True)
        (home / "content").write_text(str(self.content))
        description = {"key": record.key, "inputs": inputs, "attempt": last.n}
        assert artifact.publish_in_place(home, artifact.seal(home, description))
        attempt.end(last, "complete", "")
        model.state, model.built = State.COMPLETE, self.content

    def is_read(self, name: str) -> bool:
        """Whether a stage that is in flight has this one as an input."""
        readers = [each for each in self.model if name != each and self.state(each) in (State.QUEUED, State.RUNNING)]
        key = self.record(name).key
        return any(ref.key == key for each in readers for ref in self.record(each).stage.inputs.values())

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        if self.state(name) in (State.QUEUED, State.RUNNING):
            return
        if self.is_read(name):
            with pytest.raises(UserError, match="in flight and reads"):
                stop.remove(self.store, self.record(name), "not needed")
            return
        stop.remove(self.store, self.record(name), "not needed")
        self.model[name].state = State.LOST

    @rule(name=NAMES)
    def remove_home_by_hand(self, name: str) -> None:
        if self.model[name].state is State.COMPLETE:
            shutil.rmtree(self.store.home(self.record(name)))
            self.model[name].state = State.LOST

    @rule(name=NAMES)
    def evict(self, name: str) -> None:
        if self.model[name].state is State.COMPLETE:
            record = self.record(name)
            note = self.store.stage(record.key) / "evicted.json"
            files.create(note, files.encode({"where": "s3://bucket/run"}))
            kept = Path(self.place.name) / f"kept-{name}"
            self.store.home(record).rename(kept)
            assert Reader(self.store).standing(record).state is State.EVICTED
            assert not submittable([Reader(self.store).standing(record)], [record.key])
            kept.rename(self.store.home(record))
            note.unlink()

    @rule(name=NAMES)
    def damage_the_manifest(self, name: str) -> None:
        if self.model[name].state is State.COMPLETE:
            path = self.store.home(self.record(name)) / artifact.MANIFEST
            path.write_bytes(path.read_bytes()[:40])
            self.model[name].state = State.OWED

    @precondition(lambda self: all(model.state is State.COMPLETE for model in self.model.values()))
    @rule()
    def look_with_a_newer_version(self) -> None:
        Make.version = 2
        try:
            assert [standing.state for standing in standings(self.plan(), self.store)] == [State.OUTDATED] * 2
        finally:
            Make.version = 1

    def state(self, name: str) -> State:
        """The state that the model expects."""
        model, base = self.model[name], self.model["base"]
        if (
            name == "user"
            and model.state is State.COMPLETE
            and base.state is State.COMPLETE
            and base.built != model.used
        ):
            return State.STALE
        return model.state

    @invariant()
    def standings_are_as_expected(self) -> None:
        found = {standing.record.name: standing for standing in standings(self.plan(), self.store)}
        assert {name: standing.state for name, standing in found.items()} == {
            name: self.state(name) for name in self.model
        }, found
        assert all(standing.reason for standing in found.values() if standing.state is not State.COMPLETE)
        assert [standing.record.name for standing in missing(self.plan(), self.store)] == [
            name for name in self.model if self.state(name) is not State.COMPLETE
        ]

    @invariant()
    def looking_changes_nothing(self) -> None:
        before = everything(self.store.root)
        missing(self.plan(), self.store)
        assert everything(self.store.root) == before

    def teardown(self) -> None:
        if hasattr(self, "place"):
            self.place.cleanup()


def everything(root: Path) -> dict[str, tuple[int, int]]:
    """Every file and directory with its inode and time of change."""
    found = {}
    for parent, folders, names in os.walk(root):
        for name in [*folders, *names]:
            path = os.path.join(parent, name)
            state = os.lstat(path)
            found[path] = (state.st_ino, state.st_ctime_ns)
    return found


TestStandings = Standings.TestCase
TestStandings.settings = settings(
    max_examples=1000 if os.environ.get("HOLDFAST_SOAK") else 25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
