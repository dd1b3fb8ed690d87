"""A pretend SLURM: sbatch, squeue, sacct, scancel, scontrol and sinfo over a directory of files, with faults to order.

It starts nothing. A test (or you) says in that directory what the scheduler holds and how it misbehaves:

    jobs.json           {"12": {"comment": "", "tasks": {"0": {"state": "PENDING", "restarts": 0, "reason": ""}}}}
    faults/<command>    how the next calls of a command go wrong, a word a line, used up one by one; `always WORD` stays
    calls.log           every call with its arguments

Words: `timeout` (socket timed out, nothing happened), `lost` (it happened, the answer did not arrive), `down` (no
controller), `garbage` (an answer of another program), `refuse TEXT` (TEXT on stderr), `disabled` (no accounting).

Put links to this file, named like the commands, in front of PATH: `install(directory)` does.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo")
SAYS = {
    "timeout": "{0}: error: Batch job submission failed: Socket timed out on send/recv operation",
    "lost": "{0}: error: Batch job submission failed: Socket timed out on send/recv operation",
    "down": "{0}: error: slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
    "disabled": "Slurm accounting storage is disabled",
}


def install(directory: Path) -> dict[str, str]:
    """Make the commands in `directory`/bin; returns the variables that put them in front of the real ones."""
    programs = directory / "bin"
    programs.mkdir(parents=True)
    (directory / "faults").mkdir()
    for name in COMMANDS:
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {__file__} {directory} {name} "$@"\n')
        program.chmod(0o755)
    return {"PATH": f"{programs}:{os.environ['PATH']}", "SLURM_CONF": "/nonexistent"}


class Fake:
    """The scheduler that lies in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def jobs(self) -> dict[str, Any]:
        path = self.directory / "jobs.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    @jobs.setter
    def jobs(self, jobs: dict[str, Any]) -> None:
        temporary = self.directory / f"jobs.{os.getpid()}"
        temporary.write_text(json.dumps(jobs))
        temporary.rename(self.directory / "jobs.json")

    def order(self, command: str, *words: str) -> None:
        """The next calls of a command go wrong like this."""
        (self.directory / "faults" / command).write_text("".join(f"{word}\n" for word in words))

    def calls(self, command: str) -> list[str]:
        """The arguments of every call of a command."""
        log = self.directory / "calls.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.partition(" ")[2] for line in lines if line.partition(" ")[0] == command]

    def set_all(self, **fields: Any) -> None:
        """Change every task."""
        jobs = self.jobs
        for job in jobs.values():
            for task in job["tasks"].values():
                task.update(fields)
        self.jobs = jobs

    def next_fault(self, command: str) -> str:
        path = self.directory / "faults" / command
        words = path.read_text().splitlines() if path.exists() else []
        if not words:
            return ""
        if words[0].startswith("always "):
            return words[0].removeprefix("always ")
        path.write_text("".join(f"{word}\n" for word in words[1:]))
        return words[0]

    def sbatch(self, arguments: list[str]) -> str:
        script = Path(arguments[-1]).read_text()
        options = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", script, re.MULTILINE))
        number = str(len(self.jobs) + 101)
        tasks = {index: {"state": "PENDING", "restarts": 0, "reason": "Priority"} for index in _indices(options)}
        self.jobs = {**self.jobs, number: {"tasks": tasks, "comment": options.get("comment", "")}}
        return number

    def squeue(self, arguments: list[str]) -> str:
        asked = [word.partition("=")[2] for word in arguments if word.startswith("--jobs=")]
        return "\n".join(
            f"{job_id:<24}{index:<24}{task['state']:<24}{task['restarts']:<12}{task['reason']:<48}{job['comment']:<96}"
            for job_id, job in self.jobs.items()
            for index, task in job["tasks"].items()
            if not asked or job_id in asked[0].split(",")
        )

    def sacct(self, arguments: list[str]) -> str:
        path = self.directory / "sacct"
        return path.read_text() if path.exists() else ""

    def scancel(self, arguments: list[str]) -> str:
        jobs = self.jobs
        for name in (word for word in arguments if word[0].isdigit()):
            job_id, _, index = name.partition("_")
            for number, task in jobs.get(job_id, {"tasks": {}})["tasks"].items():
                if number in (index, "N/A") and (task["state"] == "PENDING" or "--state=PENDING" not in arguments):
                    task["state"] = "CANCELLED"
        self.jobs = jobs
        return ""

    def scontrol(self, arguments: list[str]) -> str:
        return "MaxArraySize            = 101\nKillWait                = 30 sec" if arguments[0] == "show" else ""

    def sinfo(self, arguments: list[str]) -> str:
        return "batch|4"


def _indices(options: dict[str, str]) -> list[str]:
    if "array" not in options:
        return ["N/A"]
    found: list[str] = []
    for part in options["array"].partition("%")[0].split(","):
        first, _, last = part.partition("-")
        found += map(str, range(int(first), int(last or first) + 1))
    return found


def main(directory: Path, command: str, arguments: list[str]) -> int:
    fake = Fake(directory)
    with (fake.directory / "calls.log").open("a") as log:
        log.write(f"{command} {' '.join(arguments)}\n")
    fault, _, text = fake.next_fault(command).partition(" ")
    if fault == "garbage":
        print("<html>502 Bad Gateway</html>")
        return 0
    if fault in ("", "lost"):
        said = getattr(fake, command)(arguments)
        print(said) if said and not fault else None
    if fault:
        print(text if fault == "refuse" else SAYS[fault].format(command), file=sys.stderr)
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
