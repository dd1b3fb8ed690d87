"""Keys of the shipped kinds are pinned: what finished under a key must stay finished.

`HOLDFAST_WRITE_GOLDEN=1 pytest tests/core/test_golden_keys.py` writes the file anew, after a version was bumped.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest

from holdfast.core import kind
from holdfast.core.stage import Ref

GOLDEN = Path(__file__).parents[1] / "golden_keys.json"
PRESENT = sorted(name for name, where in kind.SHIPPED.items() if importlib.util.find_spec(where.partition(":")[0]))


def examples(name: str) -> dict[str, Any]:
    """The least params that the kind accepts, and the same with every default written out."""
    fields = kind.load(name).Params.model_fields
    required = {field: example(name, field) for field, info in fields.items() if info.is_required()}
    return {"least": required}


def example(name: str, field: str) -> Any:
    """A value for a field that has no default: by the type that its schema gives."""
    if field == "environment":
        return "addition"
    schema = kind.load(name).Params.model_json_schema()
    return value_of(schema["properties"][field], schema)


def value_of(schema: dict[str, Any], whole: dict[str, Any]) -> Any:
    if "$ref" in schema:
        return value_of(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return value_of(schema["anyOf"][0], whole)
    if schema.get("type") == "object":
        inner = schema.get("properties", {})
        return {key: value_of(inner[key], whole) for key in schema.get("required", [])}
    if schema.get("type") == "array":
        return [value_of(schema.get("items", {"type": "string"}), whole)] * max(1, schema.get("minItems", 1))
    return {"integer": max(1, schema.get("minimum", 1)), "number": 0.5, "boolean": True, "null": None}.get(
        str(schema.get("type")), "x"
    )


def describe(name: str) -> dict[str, Any]:
    """What is pinned of a kind: version, inputs, fields with their defaults, and the key of an example."""
    implementation = kind.load(name)
    inputs = {each: Ref("0" * 64) for each in (*implementation.inputs, *implementation.optional_inputs)}
    stage = implementation.stage(examples(name)["least"], inputs)
    return {
        "version": implementation.version,
        "inputs": [*implementation.inputs, *implementation.optional_inputs],
        "params": json.loads(json.dumps(dict(stage.params))),
        "key": stage.key,
    }


@pytest.mark.parametrize("name", PRESENT)
def test_finished_work_keeps_its_key(name: str) -> None:
    found = describe(name)
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("HOLDFAST_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps({**golden, name: found}, indent=1, sort_keys=True) + "\n")
        return
    pinned = golden.get(name)
    assert pinned is not None, f"kind {name} is not pinned yet: write tests/golden_keys.json anew (see this file)"
    changed = [
        f"{field} is {found['params'].get(field)!r}, pinned {pinned['params'].get(field)!r}"
        for field in {**pinned["params"], **found["params"]}
        if found["params"].get(field) != pinned["params"].get(field)
        or (field in found["params"]) != (field in pinned["params"])
    ]
    assert found == pinned or found["version"] != pinned["version"], (
        f"kind {name}: identity changed without a new version: {'; '.join(changed) or 'inputs or key'}. "
        "Declare a field that was added with added(..., as_before=...); bump the version if the meaning changed."
    )
    assert found == pinned, (
        f"kind {name} has version {found['version']}, pinned {pinned['version']}: write the file anew"
    )


def test_no_kind_that_is_pinned_has_gone() -> None:
    assert set(json.loads(GOLDEN.read_text())) <= set(kind.SHIPPED)
