"""What `bench/core.py` measures inside a process: makes roots with our own functions, and times single calls.

Each call is one process, so that its peak memory is its own and nothing is warm but the disk:

    python bench/workload.py prepare DIR STAGES     a plan of chains train -> convert -> evaluate, half of it complete
    python bench/workload.py standings DIR          `standings()` of that plan
    python bench/workload.py write DIR COUNT        `Store.write` of COUNT planned stages: one sync
    python bench/workload.py write-each DIR COUNT   the same files, with an fsync for each file and directory
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.core import artifact, files, kind, plan, process
from holdfast.core.record import Record
from holdfast.core.stage import Ref
from holdfast.core.store import Store
from holdfast.pipelines import plan_file

FILES = 20
STOPPED_EVERY = 10


def describe(count: int) -> dict[str, dict[str, Any]]:
    """`count` stages as a plan file says them: chains of three, names and values all different."""
    stages: dict[str, dict[str, Any]] = {}
    for n in range(count):
        chain, link = divmod(n, 3)
        run = f"run_{chain:05d}"
        if link == 0:
            params = {"run": run, "steps": 150, "seed": chain, "lr": 1e-6 * (1 + chain), "save_at": [75, 150]}
            stages[run] = {"kind": "chain_kinds:Train", "params": params}
        elif link == 1:
            stages[f"{run}_hf"] = {"kind": "chain_kinds:Convert", "inputs": {"checkpoint": run}}
        else:
            inputs = {"model": f"{run}_hf"}
            stages[f"{run}_eval"] = {"kind": "chain_kinds:Evaluate", "params": {"dataset": "gsm8k"}, "inputs": inputs}
    return stages


def as_yaml(stages: Mapping[str, Mapping[str, Any]]) -> str:
    """The plan as a person or their script writes it: one stage a line, flow style. JSON is YAML."""
    lines = [f"  {name}: {json.dumps(stage)}" for name, stage in stages.items()]
    return "\n".join(["stages:", *lines, ""])


def records(count: int) -> list[Record]:
    """The same stages, made by their kinds without a plan file."""
    made: dict[str, Record] = {}
    for name, entry in describe(count).items():
        implementation = kind.load(entry["kind"])
        inputs = {label: Ref(made[supplier].key) for label, supplier in entry.get("inputs", {}).items()}
        stage = implementation.stage(entry.get("params", {}), inputs)
        made[name] = Record(stage, name, implementation.home(name))
    return list(made.values())


def prepare(directory: Path, count: int) -> None:
    """Write `plan.yaml` and a root in which half of it is complete; of the rest every tenth was stopped once."""
    directory.mkdir(parents=True)
    stages = describe(count)
    (directory / "plan.yaml").write_text(as_yaml(stages))
    (directory / "small.yaml").write_text(as_yaml(dict(list(stages.items())[:3])))
    store = Store(directory / "root")
    planned = records(count)
    store.write(planned)
    done = planned[: count // 2]
    complete(done, store, directory / "template")
    for record in planned[count // 2 :: STOPPED_EVERY]:
        stop(record, store)
    first = artifact.read(store.home(done[0]))
    assert first is not None and not artifact.verify(store.home(done[0]), first, digests=True)


def complete(wanted: list[Record], store: Store, template: Path) -> None:
    """Give each stage a home of 20 files and a manifest that is true of them.

    The files are sealed once and hard-linked: 100,000 fsyncs would take minutes and change nothing that planning reads.
    """
    template.mkdir()
    for n in range(FILES):
        (template / f"model-{n:05d}-of-{FILES:05d}.safetensors").write_bytes(b"%d" % n * 100)
    sealed = artifact.seal(template, {}).content
    for record in wanted:
        home = store.home(record)
        home.mkdir(parents=True)
        for entry in os.scandir(template):
            os.link(entry.path, home / entry.name)
        used = {name: {"key": ref.key, "digest": sealed["digest"]} for name, ref in record.stage.inputs.items()}
        manifest = {**sealed, "key": record.key, "attempt": 1, "inputs": used}
        (home / artifact.MANIFEST).write_bytes(files.encode(manifest))


def stop(record: Record, store: Store) -> None:
    """Leave the traces of one attempt that was stopped."""
    sequence = store.attempts(record.key)
    owner = process.current().as_dict()
    claim = {"token": files.new_token(), "job": files.new_token(), "owner": owner, "started": time.time()}
    ending = {"outcome": "stopped", "reason": "stopped at step 75 of 150", "code": 0, "finished": time.time()}
    (sequence / "001").mkdir(parents=True)
    (sequence / "001.json").write_bytes(files.encode(claim))
    (sequence / "001" / "exit.json").write_bytes(files.encode(ending))


def time_standings(directory: Path) -> float:
    """Seconds of `standings()` alone, for a plan that was read."""
    store = Store(directory / "root")
    wanted = plan_file.read(directory / "plan.yaml", (), store)
    started = time.perf_counter()
    plan.standings(wanted, store)
    return time.perf_counter() - started


def time_write(directory: Path, count: int) -> float:
    """Seconds until `count` planned stages are on disk: one sync for all."""
    store, planned = Store(directory), records(count)
    started = time.perf_counter()
    store.write(planned)
    return time.perf_counter() - started


def time_write_each(directory: Path, count: int) -> float:
    """Seconds until as many files of the same size are on disk, with an fsync for each file and its directory."""
    planned = [(directory / record.key, files.encode(record.stage.as_dict())) for record in records(count)]
    started = time.perf_counter()
    directory.mkdir()
    for folder, data in planned:
        folder.mkdir()
        files.write_durably(folder / "stage.json", data)
        files.fsync_path(folder)
    files.fsync_path(directory)
    return time.perf_counter() - started


def main() -> None:
    verb, directory, *rest = sys.argv[1:]
    count = int(rest[0]) if rest else 0
    if verb == "prepare":
        prepare(Path(directory), count)
        return
    timed = {
        "standings": lambda: time_standings(Path(directory)),
        "write": lambda: time_write(Path(directory), count),
        "write-each": lambda: time_write_each(Path(directory), count),
    }
    print(json.dumps({"seconds": timed[verb]()}))


if __name__ == "__main__":
    main()
