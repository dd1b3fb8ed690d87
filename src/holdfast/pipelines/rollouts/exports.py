"""Published rollouts in the forms of others: NeMo Gym's files, Parquet, a directory that `datasets` loads.

Rows are read and written one by one, or in groups: memory does not grow with their number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from holdfast.core import files
from holdfast.core.errors import UserError
from holdfast.environments.responses import response_object
from holdfast.stages.rescore import read_rows

GROUP = 1000
"""Rows of one group of a Parquet file."""
CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---

{count} rollouts of {prompts} prompts, exported by holdfast {version}. `prompt`, `response`, `turns` and `info` are
JSON; `messages` is the whole chat.
"""
Row = Mapping[str, Any]


def export(rollouts: Path, out: Path, form: str) -> int:
    """Write the rollouts of a file into the directory `out`, which must not be there or be empty; returns how many.

    Raises:
        UserError: `out` holds something, or a library is missing.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already, and is not empty", "give another directory")
    files.make_directories(out)
    if form == "nemo-gym":
        return _write_nemo_gym(rollouts, out)
    if form == "parquet":
        return _write_parquet(rollouts, out / "rollouts.parquet")
    count = _write_parquet(rollouts, _data(out) / "train-00000-of-00001.parquet")
    _write_card(rollouts, out, count)
    return count


def _data(out: Path) -> Path:
    files.make_directories(out / "data")
    return out / "data"


def _write_card(rollouts: Path, out: Path, count: int) -> None:
    from holdfast import __version__

    prompts = len({row["id"] for row in read_rows(rollouts)})
    (out / "README.md").write_text(CARD.format(count=count, prompts=prompts, version=__version__), encoding="utf-8")


def _write_nemo_gym(rollouts: Path, out: Path) -> int:
    """`rollouts.jsonl` and what it was collected from, `rollouts_materialized_inputs.jsonl`, line by line the same."""
    tasks: dict[str, int] = {}
    count = 0
    with (
        open(out / "rollouts.jsonl", "w", encoding="utf-8") as rows,
        open(out / "rollouts_materialized_inputs.jsonl", "w", encoding="utf-8") as inputs,
    ):
        for row in read_rows(rollouts):
            task = tasks.setdefault(row["id"], len(tasks))
            asked = _asked(row, task)
            inputs.write(json.dumps(asked, ensure_ascii=False) + "\n")
            rows.write(json.dumps(_answered(row, asked), ensure_ascii=False) + "\n")
            count += 1
    return count


def _asked(row: Row, task: int) -> dict[str, Any]:
    """The input row: the prompt's own fields, what was asked of the model, and its place."""
    prompt = row["prompt"]
    own = dict(prompt) if isinstance(prompt, Mapping) else {"prompt": prompt}
    own.setdefault("id", row["id"])
    begun = [dict(each) for each in _before(row.get("messages") or ())]
    params = dict(own.pop("responses_create_params", None) or {})
    params.setdefault("input", begun or str(prompt))
    agent = {"type": "responses_api_agents", "name": "holdfast"}
    places = {"_ng_task_index": task, "_ng_rollout_index": row["repeat"]}
    return {"responses_create_params": params, "agent_ref": own.pop("agent_ref", agent), **own, **places}


def _before(messages: Any) -> Iterator[Row]:
    for message in messages:
        if message["role"] == "assistant":
            return
        yield message


def _answered(row: Row, asked: Row) -> dict[str, Any]:
    said = row["response"]
    text = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": str(said)}]}
    output = said.get("output", []) if isinstance(said, Mapping) else [text]
    names = ("reward", "success", "num_steps", "terminated", "truncated", "info", "answer", "seed")
    judged = {name: row[name] for name in names if name in row}
    return {**asked, "response": response_object(_flat(output), "", row.get("usage")), **judged}


def _flat(output: Any) -> list[Any]:
    """Items whose content is a list of parts, where it is the model's."""
    return [
        {**item, "content": [{"type": "output_text", "text": item["content"]}]}
        if item.get("role") == "assistant" and isinstance(item.get("content"), str)
        else item
        for item in output
    ]


def _write_parquet(rollouts: Path, path: Path) -> int:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError("Parquet needs pyarrow, which is not there", "pip install 'holdfast[evals]'") from None
    schema = _schema(pyarrow)
    rows, count = read_rows(rollouts), 0
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(rows, GROUP)):
            writer.write_table(pyarrow.Table.from_pylist([_flattened(row) for row in group], schema=schema))
            count += len(group)
    return count


def _schema(pyarrow: Any) -> Any:
    text, whole, real, flag = pyarrow.string(), pyarrow.int64(), pyarrow.float64(), pyarrow.bool_()
    names = ("role", "content", "tool_calls", "tool_call_id", "name")
    message = pyarrow.struct([(name, text) for name in names])
    columns = [("id", text), ("repeat", whole), ("reward", real), ("success", flag), ("num_steps", whole)]
    columns += [("tool_calls", whole), ("terminated", flag), ("truncated", flag), ("finish", text), ("answer", text)]
    columns += [("seed", whole), ("tries", whole), ("attempt", whole)]
    columns += [("prompt_tokens", whole), ("completion_tokens", whole), ("started", real), ("finished", real)]
    columns += [("prompt", text), ("response", text), ("messages", pyarrow.list_(message))]
    return pyarrow.schema([*columns, ("turns", text), ("info", text)])


def _flattened(row: Row) -> dict[str, Any]:
    usage, timing = row.get("usage") or {}, row.get("timing") or {}
    as_json = {name: _json(row.get(name)) for name in ("prompt", "response", "turns", "info")}
    return {
        **row,
        **as_json,
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "started": timing.get("started"),
        "finished": timing.get("finished"),
        "messages": [_message(each) for each in row.get("messages") or ()],
    }


def _message(message: Row) -> dict[str, Any]:
    calls = message.get("tool_calls")
    content = message.get("content")
    texts = {"content": content if isinstance(content, str | None) else _json(content), "role": message["role"]}
    return {
        **texts,
        "tool_calls": _json(calls) if calls else None,
        **{k: message.get(k) for k in ("tool_call_id", "name")},
    }


def _json(value: Any) -> str | None:
    return value if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False)
