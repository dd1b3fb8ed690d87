"""GPUs are claimed per host: no two launches share one, a dead holder frees it, and too many are refused at once."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.runs import (
    claims,
    environment,
    hold,
    is_running,
    processes_of,
    python,
    status,
    submit,
    wait_until,
    write_plan,
)

NOTES = """
import os, sys, time
evidence = sys.argv[1]
def write(word):
    fd = os.open(evidence, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{word} {os.environ['CUDA_VISIBLE_DEVICES']} {time.monotonic()}\\n".encode())
    os.close(fd)
write("start")
time.sleep(0.4)
write("end")
"""


def host(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "runtime").mkdir(exist_ok=True)
    return {"HOLDFAST_GPUS": "0,1", "XDG_RUNTIME_DIR": str(tmp_path / "runtime")}


def is_idle(root: Path) -> bool:
    return not processes_of(root)


def test_launches_in_two_roots_never_share_a_gpu(tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"
    for name in ("one", "two"):
        stages = {f"{name}{i}": {**python(NOTES, str(evidence)), "gpus": 1} for i in range(2)}
        stages[f"{name}both"] = {**python(NOTES, str(evidence)), "gpus": 2}
        stages[f"{name}both"]["params"]["command"].append("both")
        for i in range(2):
            stages[f"{name}{i}"]["params"]["command"].append(str(i))
        (tmp_path / name).mkdir()
        submit(
            tmp_path / name / "root", write_plan(tmp_path / f"{name}.yaml", stages), max_parallel=3, env=host(tmp_path)
        )
    wait_until(lambda: evidence.exists() and evidence.read_text().count("end") == 6, 60)
    holders: dict[str, int] = {"0": 0, "1": 0}
    for line in evidence.read_text().splitlines():
        word, devices, _ = line.split()
        for device in devices.split(","):
            holders[device] += 1 if word == "start" else -1
            assert holders[device] in (0, 1), evidence.read_text()
    for name in ("one", "two"):
        wait_until(functools.partial(is_idle, tmp_path / name / "root"))


def test_gpu_of_a_dead_holder_is_free_once_what_it_left_is_ended(tmp_path: Path) -> None:
    root, other = tmp_path / "a" / "root", tmp_path / "b" / "root"
    root.parent.mkdir()
    other.parent.mkdir()
    sleeps = {**python("import time; time.sleep(600)"), "gpus": 2}
    submit(root, write_plan(tmp_path / "sleeps.yaml", {"sleeps": sleeps}), env=host(tmp_path))
    wait_until(lambda: status(root, "sleeps")["state"] == "running")
    child = wait_until(lambda: [p for p, c in processes_of(root).items() if "-S" in c])[0]
    os.kill(claims(root, "sleeps")[-1].owner.pid, signal.SIGKILL)
    quick = {**python("print(1)"), "gpus": 1}
    plan = write_plan(tmp_path / "quick.yaml", {"quick": quick})
    hold(other, "run", str(plan), "--wait", code=0, env=host(tmp_path))
    assert not is_running(child), "the GPU was still in use"


def test_more_gpus_than_there_are_is_an_error_at_submission(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"big": {**python("print(1)"), "gpus": 3}})
    done = hold(root, "run", str(plan), code=2, env=host(tmp_path))
    assert "`big` wants 3 GPUs, and this machine has 2" in done.stderr
    assert not root.exists()


RUSH = """
import os, sys
from holdfast.execute import slots
for _ in range(int(sys.argv[1])):
    for device, claim in (held := slots.acquire(1) or {}).items():
        os.close(os.open(f"{sys.argv[2]}/mine-{device}", os.O_CREAT | os.O_EXCL))
        os.unlink(f"{sys.argv[2]}/mine-{device}")
    slots.release(held)
"""


def test_gpu_is_never_given_to_two_who_take_and_give_back_in_a_rush(tmp_path: Path) -> None:
    """Who is held up between looking and claiming must not get a number that was used and forgotten meanwhile."""
    variables = {**host(tmp_path), "HOLDFAST_GPUS": "0"}
    tokens = [sys.executable, "-c", RUSH, "250", str(tmp_path)]
    people = [subprocess.Popen(tokens, env=environment(**variables)) for _ in range(4)]
    assert [person.wait(120) for person in people] == [0] * 4


def test_slots_can_be_counted_while_others_take_and_give_them(tmp_path: Path) -> None:
    busy = "from holdfast.execute import slots\nfor _ in range(60):\n    slots.release(slots.acquire(1) or {})"
    counts = "from holdfast.execute import slots\nfor _ in range(400):\n    assert 0 <= slots.free() <= 2"
    people = [
        subprocess.Popen([sys.executable, "-c", each], env=environment(**host(tmp_path)))
        for each in (busy, busy, counts)
    ]
    assert [person.wait(60) for person in people] == [0, 0, 0]
