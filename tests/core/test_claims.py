"""Claims: whatever several owners do, at most one of them owns a stage, and what was recorded stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.runs import environment

from holdfast.core import attempt, process
from holdfast.core.attempt import Census, Claim, Life
from holdfast.core.errors import Held
from holdfast.core.process import Identity

OWNERS = st.integers(0, 2)


class Claims(RuleBasedStateMachine):
    """Three owners, each a living process of its own, take, end and die in any order."""

    @initialize()
    def begin(self) -> None:
        self.place = tempfile.TemporaryDirectory()
        self.sequence = Path(self.place.name) / "attempts"
        self.alive = [self.spawn() for _ in range(3)]
        self.model: list[tuple[int, str]] = []
        self.records: dict[int, bytes] = {}

    def spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "60"])

    def identity(self, owner: int) -> Identity:
        pid = self.alive[owner].pid
        here = process.current()
        return Identity(**{**here.as_dict(), "pid": pid, "start": process.start_time(pid) or ""})

    def holder(self) -> int | None:
        """The owner that the model says has the claim."""
        if self.model and self.model[-1][1] == "":
            return self.model[-1][0]
        return None

    @rule(owner=OWNERS, exclusive=st.booleans())
    def take(self, owner: int, exclusive: bool) -> None:
        held = self.holder() is not None
        try:
            claim = attempt.take(
                self.sequence, f"job{owner}", exclusive=exclusive, owner=self.identity(owner), grace=0.0
            )
        except Held:
            assert held
            return
        assert not held
        if self.model and self.model[-1][1] == "dead":
            self.model[-1] = (self.model[-1][0], "died")
        self.model.append((owner, ""))
        assert claim.n == len(self.model)

    @rule(owner=OWNERS)
    def die(self, owner: int) -> None:
        self.alive[owner].kill()
        self.alive[owner].wait()
        if self.holder() == owner:
            self.model[-1] = (owner, "dead")
        self.alive[owner] = self.spawn()

    @rule(outcome=st.sampled_from(["complete", "failed", "stopped"]), back=st.integers(0, 2))
    def end(self, outcome: str, back: int) -> None:
        """Also attempts that have lost their claim long ago try to end it once more."""
        if back >= len(self.model):
            return
        number = len(self.model) - back
        attempt.end(attempt.read(self.sequence, number), outcome, "because")
        owner, known = self.model[number - 1]
        if known in ("", "dead"):
            self.model[number - 1] = (owner, outcome)

    @invariant()
    def what_is_recorded_stands(self) -> None:
        found = attempt.every(self.sequence)
        assert [claim.n for claim in found] == list(range(1, len(self.model) + 1))
        for claim, (owner, outcome) in zip(found, self.model, strict=True):
            assert claim.job == f"job{owner}"
            ending = claim.ending()
            assert (ending["outcome"] if ending else "") == outcome.replace("dead", "")
            if ending:
                record = (claim.directory / "exit.json").read_bytes()
                assert self.records.setdefault(claim.n, record) == record

    @invariant()
    def only_the_newest_is_open(self) -> None:
        assert all(claim.ending() for claim in attempt.every(self.sequence)[:-1])
        alive = [c for c in attempt.every(self.sequence) if not c.ending() and judge(c) is Life.ALIVE]
        assert len(alive) == (self.holder() is not None)

    def teardown(self) -> None:
        for each in getattr(self, "alive", []):
            each.kill()
            each.wait()
        if hasattr(self, "place"):
            self.place.cleanup()


def judge(claim: Claim) -> Life:
    return attempt.judge(claim, Census()).life


TestClaims = Claims.TestCase
TestClaims.settings = settings(
    max_examples=200 if os.environ.get("HOLDFAST_SOAK") else 15,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def claim_of(tmp_path: Path, **owner: object) -> Claim:
    here = process.current().as_dict()
    return attempt.create(tmp_path / "attempts", 1, "job", Identity(**{**here, **owner}))


@pytest.mark.parametrize(
    ("owner", "life"),
    [
        ({}, Life.ALIVE),
        ({"start": "1"}, Life.DEAD),
        ({"pid": 2**22 + 1}, Life.DEAD),
        ({"boot": "before"}, Life.DEAD),
        ({"boot": "before", "machine": "@host"}, Life.UNKNOWN),
        ({"machine": "other@host"}, Life.UNKNOWN),
        ({"namespace": "pid:[1]"}, Life.UNKNOWN),
        ({"start": ""}, Life.UNKNOWN),
    ],
)
def test_death_is_only_what_can_be_proven(owner: dict[str, object], life: Life, tmp_path: Path) -> None:
    assert judge(claim_of(tmp_path, **owner)) is life


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_what_another_user_left_running_is_no_proof_of_death(tmp_path: Path) -> None:
    claim = claim_of(tmp_path, pid=2**22 + 1)
    tmp_path.chmod(0o755)
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom holdfast.core import attempt, process\nos.setuid(65534)\n"
        "print(attempt.judge(attempt.read(Path(sys.argv[1]), 1), attempt.Census()).reason)"
    )
    for parent in claim.path.parents:
        if os.stat(parent).st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-c", script, str(claim.path.parent)], env=environment(), capture_output=True, text=True
    )
    assert "cannot see what root left running" in done.stdout, done.stderr


def test_beating_owner_is_not_silent_and_a_still_one_is(tmp_path: Path) -> None:
    claim = claim_of(tmp_path, machine="other@host")
    counts = iter(range(1000))

    def beats(_: float) -> None:
        claim.heartbeat.write_text(str(next(counts)))

    assert not attempt.falls_silent(claim, 0.2, beats)
    assert attempt.falls_silent(claim, 0.05)


def test_silence_frees_safe_kinds_and_never_exclusive_ones(tmp_path: Path) -> None:
    claim_of(tmp_path, machine="other@host")
    with pytest.raises(Held, match="only proof of its death frees it"):
        attempt.take(tmp_path / "attempts", "job", exclusive=True, silence=0.05)
    assert attempt.take(tmp_path / "attempts", "job", exclusive=False, silence=0.05).n == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b'{"schema": 1, "outcome": 3}', b"\xff\xfe"])
def test_damaged_exit_record_ends_an_attempt_all_the_same(content: bytes, tmp_path: Path) -> None:
    claim = claim_of(tmp_path)
    (claim.directory / "exit.json").write_bytes(content)
    ending = claim.ending()
    assert ending and ending["outcome"] == "unknown" and str(claim.directory) in ending["reason"]
    assert attempt.take(tmp_path / "attempts", "job", exclusive=True).n == 2


def test_empty_folder_of_attempts_is_a_stage_that_was_never_started(tmp_path: Path) -> None:
    (tmp_path / "attempts").mkdir()
    assert attempt.newest(tmp_path / "attempts") is None
    assert attempt.take(tmp_path / "attempts", "job", exclusive=True).n == 1


def test_leftovers_of_writers_are_no_claims(tmp_path: Path) -> None:
    claim = claim_of(tmp_path)
    for name in (".tmp-0123456789abcdef", "1.json", "x01.json", "002.json.bad", "002"):
        (claim.path.parent / name).write_text("{")
    newest = attempt.newest(claim.path.parent)
    assert newest and newest.n == 1


@given(st.integers(1, 400))
@settings(max_examples=60)
def test_torn_claim_is_an_error_and_never_a_free_stage(length: int) -> None:
    from holdfast.core.errors import DamagedFile

    with tempfile.TemporaryDirectory() as place:
        claim = claim_of(Path(place))
        whole = claim.path.read_bytes()
        claim.path.write_bytes(whole[: min(length, len(whole) - 3)])
        with pytest.raises(DamagedFile):
            attempt.take(claim.path.parent, "job", exclusive=False)
        assert json.loads(whole)["token"] == claim.token
