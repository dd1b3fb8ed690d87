"""The scores of evaluations as a table. A view: read from `metrics.json`, made anew whenever somebody looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.core import files
from holdfast.core.columns import align
from holdfast.core.errors import DamagedFile, UnreadableFile
from holdfast.core.record import Record
from holdfast.core.store import Store

FILE = "metrics.json"
HEAD = ("evaluation", "prompts", "accuracy", "95% interval", "metric", "value", "95% interval", "truncated", "missing")
NEMO = {"pass@k": "pass@", "cons@k": "maj@"}


def read(store: Store, record: Record) -> dict[str, Any] | None:
    """The content of an evaluation's `metrics.json`; None where there is none that can be read."""
    try:
        return files.read_or_none(store.home(record) / FILE, "metrics")
    except (DamagedFile, UnreadableFile):
        return None


def chosen(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The metric that was asked for: `pass@k` or `cons@k` with its k; with k = 1 both are the accuracy."""
    identity = content.get("identity", {})
    k = int(identity.get("k", 1))
    name = "accuracy" if k == 1 else f"{NEMO.get(identity.get('metric', ''), 'pass@')}{k}"
    return next((each for each in content["metrics"] if each["name"] == name), None)


def lines(store: Store, records: Sequence[Record]) -> list[str]:
    """A row for each evaluation: its accuracy, the metric that was asked for, each with its interval."""
    return align([HEAD, *(_row(record, content) for record in records if (content := read(store, record)))])


def _row(record: Record, content: Mapping[str, Any]) -> list[str]:
    accuracy = next(each for each in content["metrics"] if each["name"] == "accuracy")
    asked = chosen(content) or accuracy
    coverage, truncated = content["coverage"], content.get("truncated")
    missing = coverage["expected"] - coverage["done"]
    prompts = f"{accuracy['n_prompts']} x {accuracy['k']}"
    cut = f"{100 * truncated['value']:.1f}%" if truncated else ""
    return [
        record.name,
        prompts,
        *_value(accuracy),
        asked["name"] if asked is not accuracy else "",
        *(_value(asked) if asked is not accuracy else ("", "")),
        cut,
        str(missing) if missing else "",
    ]


def _value(metric: Mapping[str, Any]) -> tuple[str, str]:
    if metric["low"] is None:
        return f"{metric['value']:.3f}", "unknown"
    return f"{metric['value']:.3f}", f"{metric['low']:.3f} to {metric['high']:.3f}"
