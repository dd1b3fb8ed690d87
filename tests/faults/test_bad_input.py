"""Whatever is in a root or in a plan: one line says what, where and both values, then a hint; exit code 2."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.runs import ENTRY, claims, environment, hold, key_of, shell, status, write_plan

from holdfast.core.store import Store

STAGES = {"base": shell("echo 1 > {out}/x", makes=["x"]), "user": {**shell("cp {inputs.b}/x {out}/y")}}
STAGES["user"]["inputs"] = {"b": "base"}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with finished work."""
    directory = tmp_path_factory.mktemp("done")
    plan = write_plan(directory / "plan.yaml", STAGES)
    hold(directory / "root", "run", str(plan), "--wait", "--max-parallel", "2", code=0)
    return directory


@pytest.fixture
def copied(done: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may spoil."""
    shutil.copytree(done / "root", tmp_path / "root", symlinks=True)
    shutil.copy(done / "plan.yaml", tmp_path / "plan.yaml")
    return tmp_path / "root"


def assert_is_explained(answer: subprocess.CompletedProcess[str]) -> None:
    """The form of every mistake of a user."""
    assert answer.returncode == 2, (answer.returncode, answer.stdout, answer.stderr)
    lines = answer.stderr.splitlines()
    lines = lines[next(number for number, line in enumerate(lines) if line.startswith("error: ")) :]
    assert len(lines[0]) > 20, answer.stderr
    assert lines[1] == "" and lines[2].startswith("hint: ") and len(lines) == 3, answer.stderr
    assert "Traceback" not in answer.stderr


COMMAND = {"kind": "command", "params": {"command": ["true"]}}
PLANS: list[tuple[str, Any, str]] = [
    ("no stages", {}, "no stages"),
    ("a list", [], "not a mapping"),
    ("unknown section", {"stagess": {}}, "did you mean `stages`?"),
    ("stage is text", {"stages": {"a": "x"}}, "has no kind"),
    ("no kind", {"stages": {"a": {}}}, "has no kind"),
    ("unknown kind", {"stages": {"a": {"kind": "comand"}}}, "did you mean `command`?"),
    ("kind of nobody", {"stages": {"a": {"kind": "no.such:Kind"}}}, "cannot be imported"),
    ("kind without module", {"stages": {"a": {"kind": ":Kind"}}}, "cannot be imported"),
    ("kind that is none", {"stages": {"a": {"kind": "os:getcwd"}}}, "expected a class derived from"),
    ("unknown field", {"stages": {"a": {**COMMAND, "gpu": 1}}}, "did you mean `gpus`?"),
    ("unknown param", {"stages": {"a": {"kind": "command", "params": {"comand": ["x"]}}}}, "did you mean `command`?"),
    ("params is a list", {"stages": {"a": {"kind": "command", "params": []}}}, ""),
    ("params is text", {"stages": {"a": {"kind": "command", "params": "x"}}}, ""),
    ("inputs is a list", {"stages": {"a": {**COMMAND, "inputs": ["b"]}}}, ""),
    ("input is a number", {"stages": {"a": {**COMMAND, "inputs": {"x": 5}}}}, ""),
    ("unknown input", {"stages": {"a": {**COMMAND, "inputs": {"x": "bas"}}, "base": COMMAND}}, "did you mean `base`?"),
    ("circle", {"stages": {"a": {**COMMAND, "inputs": {"x": "b"}}, "b": {**COMMAND, "inputs": {"x": "a"}}}}, "circle"),
    ("itself", {"stages": {"a": {**COMMAND, "inputs": {"x": "a"}}}}, "circle"),
    ("same work twice", {"stages": {"a": COMMAND, "b": COMMAND}}, "same work"),
    ("gpus is text", {"stages": {"a": {**COMMAND, "gpus": "two"}}}, ""),
    ("gpus is negative", {"stages": {"a": {**COMMAND, "gpus": -1}}}, ""),
    ("gpus is a yes", {"stages": {"a": {**COMMAND, "gpus": True}}}, ""),
    ("command is text", {"stages": {"a": {"kind": "command", "params": {"command": "rm -rf /"}}}}, "command"),
    ("empty command", {"stages": {"a": {"kind": "command", "params": {"command": []}}}}, "command"),
    ("absent directory", {"stages": {"a": {**COMMAND, "inputs": {"x": "/no/such/place"}}}}, "/no/such/place"),
    ("a device as input", {"stages": {"a": {**COMMAND, "inputs": {"x": "/dev/null"}}}}, "neither a directory nor a"),
    ("home of nobody", {"stages": {"a": {**COMMAND, "inputs": {"x": "~nobody-of-this-name/x"}}}}, ""),
    *((f"name {name!r}", {"stages": {name: COMMAND}}, "") for name in
      ("..", ".", "/etc", "a/b", "a\nb", "", "a b", "$(id)", "`id`", "a;b", ".hidden", "x" * 300, "字" * 120, "\u202ea",
       "a\x1b[31m", "evals", ".holdfast")),
]  # fmt: skip


@pytest.mark.parametrize(("plan", "says"), [case[1:] for case in PLANS], ids=[case[0][:40] for case in PLANS])
def test_plan_that_cannot_be_is_refused_in_words(plan: Any, says: str, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(json.dumps(plan, ensure_ascii=False))
    answer = hold(tmp_path / "root", "run", "plan.yaml")
    assert_is_explained(answer)
    assert says in answer.stderr
    assert "\x1b" not in answer.stderr
    assert not (tmp_path / "root").exists(), "nothing was written"


@pytest.mark.parametrize(
    "value", ["$(touch pwned)", "`touch pwned`", "; touch pwned", "é字😀", "x" * 5000, "a\nb", "{x}"]
)
def test_hostile_value_reaches_the_program_as_it_was_written(value: str, tmp_path: Path) -> None:
    script = "import sys; open(sys.argv[1] + '/got', 'w', encoding='utf-8').write(sys.argv[2])"
    stage = {"kind": "command", "params": {"command": [sys.executable, "-S", "-c", script, "{out}", value]}}
    plan = write_plan(tmp_path / "plan.yaml", {"a": stage})
    hold(tmp_path / "root", "run", str(plan), "--wait", code=0, env={"PYTHONUTF8": "1"})
    assert (tmp_path / "root" / "a" / "got").read_text(encoding="utf-8") == value
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "nothing-of-this-name"), ("status", ""), ("status", "/"), ("status", ".."), ("status", "x" * 300),
        ("why", "usr"), ("logs", "absent"), ("logs", "user", "--attempt", "9"), ("logs", "user", "--service", "x"),
        ("cancel",), ("rm", "user"), ("rm", "absent", "--yes"), ("run", "absent.yaml"), ("run", "absent"),
        ("run", "user", "a=b"), ("run", "plan.yaml", "stages.bas.kind=x"), ("run", "plan.yaml", "--rerun", "bass"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_mistyped_command_says_what_was_meant(arguments: tuple[str, ...], copied: Path) -> None:
    assert_is_explained(hold(copied, *arguments))


def stage_file(root: Path) -> Path:
    return Store(root).stage(key_of(root, "base")) / "stage.json"


def manifest(root: Path) -> Path:
    return root / "base" / ".holdfast.json"


def claim(root: Path) -> Path:
    return claims(root, "base")[-1].path


def exit_record(root: Path) -> Path:
    return claims(root, "base")[-1].directory / "exit.json"


def job_file(root: Path) -> Path:
    return next(root.glob(".holdfast/jobs/*/job.json"))


def runner_file(root: Path) -> Path:
    return next(root.glob(".holdfast/jobs/*/runner.json"))


def tombstone(root: Path) -> Path:
    return Store(root).tombstone(key_of(root, "base"))


SPOILT = {
    "empty": b"",
    "cut": b'{"schema": 1, "ki',
    "foreign": b'{"name": "left-pad", "version": "1.3.0"}',
    "ours without fields": b'{"schema": 1}',
    "wrong types": b'{"schema": 1, "kind": [], "version": "x", "params": 5, "inputs": [], "name": 1, "home": 2,'
    b' "placement": 3, "planned": "x", "key": 5, "files": 5, "token": [], "owner": 5, "job": 5, "started": "x"}',
    "nested": b"[" * 100_000,
    "binary": bytes(range(256)),
    "newer": b'{"schema": 99}',
}


@pytest.mark.parametrize("content", SPOILT.values(), ids=SPOILT.keys())
@pytest.mark.parametrize("which", [stage_file, manifest, claim, exit_record, job_file, runner_file, tombstone])
def test_spoilt_file_never_breaks_a_listing_and_never_gets_work_done_twice(
    which: Callable[[Path], Path], content: bytes, copied: Path
) -> None:
    path = which(copied)
    path.write_bytes(content)
    answer = hold(copied, "status", "--json")
    assert "Traceback" not in answer.stderr, answer.stderr
    assert answer.returncode in (0, 3), answer.stderr
    states = {each["name"]: each["state"] for each in json.loads(answer.stdout)}
    assert states["user"] == "complete"
    again = hold(copied, "run", str(copied.parent / "plan.yaml"), "--dry")
    assert "Traceback" not in again.stderr
    if again.returncode:
        assert_is_explained(again)
    if which is not manifest:
        assert states.get("base", "complete") == "complete", "its manifest proves it"
    if content == SPOILT["newer"]:
        hold(copied, "run", str(copied.parent / "plan.yaml"), "--wait")
        assert path.read_bytes() == content, "what a later version wrote is never overwritten"


@pytest.mark.parametrize("name", ["empty", "cut", "foreign", "wrong types", "nested", "binary"])
def test_damaged_stage_file_or_manifest_is_mended_by_the_same_command(name: str, copied: Path) -> None:
    spoilt = [stage_file(copied), manifest(copied)]
    for path in spoilt:
        path.write_bytes(SPOILT[name])
    hold(copied, "run", str(copied.parent / "plan.yaml"), "--wait", code=0)
    assert status(copied, "base")["state"] == "complete"


def test_every_cut_of_a_stage_file_is_mended_or_refused_and_never_a_crash(copied: Path) -> None:
    path = stage_file(copied)
    whole, store, key = path.read_bytes(), Store(copied), path.parent.name
    from holdfast.core.errors import DamagedFile

    for length in range(len(whole) - 2):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFile, match="stage file"):
            store.read(key)


def test_stage_file_that_points_out_of_the_root_is_not_believed(copied: Path) -> None:
    path = stage_file(copied)
    content = json.loads(path.read_text())
    for home in ("/etc", "../../etc", "a/../../b"):
        path.write_text(json.dumps({**content, "home": home}))
        answer = hold(copied, "status")
        assert "is not below the root" in answer.stderr and "base" not in answer.stdout.split()


def test_name_of_other_work_is_refused_with_the_difference(copied: Path) -> None:
    other = write_plan(copied.parent / "other.yaml", {"base": shell("echo 2 > {out}/x", makes=["x"])})
    answer = hold(copied, "run", str(other))
    assert_is_explained(answer)
    assert "echo 1" in answer.stderr and "echo 2" in answer.stderr
    (copied / "mine").mkdir()
    third = write_plan(copied.parent / "third.yaml", {"mine": shell("echo 3"), "fresh": shell("echo 4")})
    assert_is_explained(hold(copied, "run", str(third)))
    renamed = write_plan(copied.parent / "renamed.yaml", {"mine2": shell("echo 3"), "fresh": shell("echo 5")})
    hold(copied, "run", str(renamed), "--wait", code=0)


AS_NOBODY = """
import os, sys, difflib, blake3, yaml, omegaconf, pydantic
import holdfast.cli.main, holdfast.cli.rm, holdfast.cli.run, holdfast.cli.status, holdfast.cli.table
import holdfast.execute.local, holdfast.execute.stop, holdfast.pipelines.plan_file, holdfast.stages.command
from holdfast.core import artifact, files, process, yaml_text
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
process._here.cache_clear()
sys.exit(holdfast.cli.main.main())
"""
"""Everything is loaded before the rights are given up: this interpreter may lie in a home that nobody else may read."""


@pytest.fixture
def as_nobody(copied: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Type a command as a user without rights, on a root that belongs to us."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    for parent in [copied, *copied.parents]:
        if parent != Path("/") and parent.stat().st_uid == 0 and parent.stat().st_mode & 0o005 != 0o005:
            parent.chmod(parent.stat().st_mode | 0o055)

    def hold_as_nobody(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", AS_NOBODY, "--root", str(copied), *arguments],
            cwd=copied.parent,
            env=environment(HOME="/nonexistent"),
            capture_output=True,
            text=True,
            timeout=60,
        )

    return hold_as_nobody


def test_root_that_may_only_be_read_is_shown_and_not_written(
    as_nobody: Callable[..., subprocess.CompletedProcess[str]], copied: Path
) -> None:
    assert as_nobody("status").returncode == 0
    plan = write_plan(copied.parent / "new.yaml", {"new": shell("true")})
    answer = as_nobody("run", str(plan))
    assert_is_explained(answer)
    assert "root cannot be written" in answer.stderr
    assert_is_explained(as_nobody("rm", "base", "--yes"))
    assert (copied / "base" / "x").exists()


@pytest.mark.parametrize(
    "which", [stage_file, manifest, claim, lambda root: root / ".holdfast" / "stages", lambda root: root]
)
def test_closed_file_or_folder_is_said_and_nothing_is_concluded_from_it(
    which: Callable[[Path], Path], as_nobody: Callable[..., subprocess.CompletedProcess[str]], copied: Path
) -> None:
    which(copied).chmod(0)
    answer = as_nobody("status")
    assert "Traceback" not in answer.stderr, answer.stderr
    if answer.returncode == 2:
        assert_is_explained(answer)
    dry = as_nobody("run", str(copied.parent / "plan.yaml"), "--dry")
    assert "Traceback" not in dry.stderr, dry.stderr
    if dry.returncode == 2:
        assert_is_explained(dry)
    else:
        assert "0 would be submitted" in dry.stderr


def test_root_that_is_a_file_or_below_one_is_refused(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.yaml", {"a": COMMAND})
    (tmp_path / "file").write_text("x")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        answer = subprocess.run(
            [sys.executable, "-c", ENTRY, "--root", str(root), "run", str(plan)],
            cwd=tmp_path, env=environment(), capture_output=True, text=True,
        )  # fmt: skip
        assert_is_explained(answer)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_stage_that_another_user_wrote_runs_only_when_it_is_trusted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"theirs": shell("exit 3")})
    hold(root, "run", str(plan), "--wait", code=1)
    (stage_file,) = root.glob(".holdfast/stages/*/stage.json")
    os.chown(stage_file, 65534, 65534)
    refused = hold(root, "run", "theirs", code=2).stderr
    assert "`theirs` was written by nobody, and would run as root" in refused and "--trust" in refused
    hold(root, "run", "theirs", "--trust", "--wait", code=1)
    hold(root, "run", str(plan), "--wait", code=1)
