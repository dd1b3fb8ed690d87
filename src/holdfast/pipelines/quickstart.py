"""The quickstart's experiment: a tiny model that adds badly, two GRPO runs on it, and every checkpoint evaluated.

The seeds are drawn once, before any work, and kept in `<root>/quickstart.yaml`: the result is whatever they give, and
the same command finds the same work again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.core import config, files, kind
from holdfast.core.errors import ConfigError
from holdfast.core.plan import Plan, Reader
from holdfast.core.record import Record
from holdfast.core.stage import Ref
from holdfast.core.store import Store
from holdfast.pipelines.learning_curve import Evaluated

FILE = "quickstart.yaml"
WARM_UP_STEPS = 400
STEPS = 240
HALF = 120
CHECKPOINTS = (40, HALF, STEPS)
PROMPTS = 256
REPEATS = 2


@dataclass(frozen=True)
class Seeds:
    """`model` seeds weights and warm-up, `runs` the two GRPO runs."""

    model: int
    runs: tuple[int, ...]


def seeds(root: Path, given: Sequence[int] | None = None) -> Seeds:
    """The seeds of this root; drawn, or taken from `given`, where there are none yet.

    Raises:
        ConfigError: other seeds are given than the root has, or its file says something else.
    """
    path = root / FILE
    wanted = tuple(given) if given else tuple(secrets.SystemRandom().sample(range(10_000), 2))
    try:
        files.make_directories(root)
        files.create(path, f"# Drawn once, before any work.\nmodel: {sum(wanted)}\nruns: {list(wanted)}\n".encode())
    except FileExistsError:
        pass
    kept = _read(path)
    if given and kept.runs != tuple(given):
        raise ConfigError(f"{path} has the seeds {list(kept.runs)}, given {list(given)}", "use another --root for them")
    return kept


def _read(path: Path) -> Seeds:
    content = config.load(path)
    runs = content.get("runs")
    if not isinstance(content.get("model"), int) or not (isinstance(runs, list) and len(set(runs)) == len(runs) == 2):
        raise ConfigError(f"{path} does not hold `model:` and two different `runs:`: {content}", f"delete {path}")
    return Seeds(content["model"], tuple(runs))


@dataclass(frozen=True)
class Experiment:
    """All stages in order, and which of them are the evaluations."""

    records: tuple[Record, ...]
    evaluated: tuple[Evaluated, ...]

    def plan(self) -> Plan:
        return Plan(self.records)

    def places(self, store: Store) -> dict[str, Path]:
        """Where the things that one would look at are."""
        homes = {
            record.stage.kind: store.home(record).parent for record in self.records if record.stage.kind != "command"
        }
        names = {"train": "runs", "convert": "models", "evaluate": "evaluations"}
        return {names[kind_name]: home for kind_name, home in homes.items()}

    def until(self, step: int, store: Store) -> Plan:
        """The evaluations up to `step` and what they still need: a run whose checkpoints are there needs nothing."""
        reader = Reader(store, self.plan())
        wanted: dict[str, Record] = {}
        for point in self.evaluated:
            if point.step <= step:
                self._want(Ref(point.record.key), reader, wanted)
        return Plan(record for record in self.records if record.key in wanted)

    def _want(self, ref: Ref, reader: Reader, wanted: dict[str, Record]) -> None:
        if ref.path and reader.digest(ref) is not None:
            return
        record = reader.plan[ref.key]
        wanted[ref.key] = record
        for each in record.stage.inputs.values():
            self._want(each, reader, wanted)


def experiment(chosen: Seeds) -> Experiment:
    """The stages for these seeds."""
    base = _record("command", "quickstart-base", _warm_up(chosen.model))
    records = [base]
    evaluated = [Evaluated(None, 0, _evaluation("quickstart-base-addition", 0, Ref(base.key)))]
    for seed in chosen.runs:
        run = f"quickstart-seed-{seed}"
        train = _record("train", run, _grpo(run, seed), {"model": Ref(base.key)})
        records.append(train)
        for step, convert in _conversions(run, train):
            records.append(convert)
            evaluated.append(Evaluated(run, step, _evaluation(f"{convert.name}-addition", step, Ref(convert.key))))
    return Experiment((*records, *(point.record for point in evaluated)), tuple(evaluated))


def _record(kind_name: str, name: str, params: dict[str, object], inputs: dict[str, Ref] | None = None) -> Record:
    implementation = kind.load(kind_name)
    return Record(implementation.stage(params, inputs), name, implementation.home(name))


def _warm_up(seed: int) -> dict[str, object]:
    program = ["{python}", "-m", "holdfast.training.warm_up", "--out", "{out}"]
    return {
        "command": [*program, "--steps", str(WARM_UP_STEPS), "--seed", str(seed)],
        "makes": ["config.json", "model.safetensors", "tokenizer.json"],
    }


def _grpo(run: str, seed: int) -> dict[str, object]:
    return {"run": run, "seed": seed, "environment": "addition", "steps": STEPS, "save_at": list(CHECKPOINTS)}


def _conversions(run: str, train: Record) -> Iterator[tuple[int, Record]]:
    for step in CHECKPOINTS:
        checkpoint = Ref(train.key, f"training_state/step_{step}")
        yield step, _record("convert", f"{run}-step-{step}", {}, {"checkpoint": checkpoint})


def _evaluation(name: str, step: int, model: Ref) -> Record:
    params: dict[str, object] = {
        "environment": "addition",
        "settings": {"split": "held_out", "count": PROMPTS},
        "repeats": REPEATS,
        "step": step,
    }
    return _record("evaluate", name, params, {"model": model})


def cores() -> int:
    """How many stages to run at a time: each is busy with one core."""
    return max(1, min(4, os.cpu_count() or 1))
