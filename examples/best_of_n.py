"""A kind of your own: keep the best response to each prompt of an evaluation, as a data set for supervised fine-tuning.

    holdfast run examples/best_of_n.yaml

Nothing is registered: a plan names the kind as `examples.best_of_n:BestOfN`. Its version and params make its key, so a
changed threshold is other work, and the same command typed twice does it once.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.core import kind
from holdfast.core.kind import Kind
from holdfast.core.output import Output


class BestOfNParams(kind.Params):
    """What counts as good enough."""

    min_reward: float = 1.0
    """Prompts whose best response earned less are left out."""


class BestOfN(Kind):
    """Safe to run twice: each attempt fills a directory of its own, and the first to finish is published."""

    name = "best-of-n"
    version = 1
    inputs = ("evaluation",)
    Params = BestOfNParams

    def home(self, name: str) -> str:
        return f"datasets/{name}"

    def run(self, params: BestOfNParams, inputs: Mapping[str, Path], out: Output) -> None:
        best: dict[str, dict[str, Any]] = {}
        with open(inputs["evaluation"] / "rows.jsonl", encoding="utf-8") as rows:
            for row in map(json.loads, rows):
                if row["id"] not in best or row["reward"] > best[row["id"]]["reward"]:
                    best[row["id"]] = row
        chosen = [row for row in best.values() if row["reward"] >= params.min_reward]
        with open(out.path / "train.jsonl", "w", encoding="utf-8") as file:
            file.writelines(
                json.dumps({"prompt": row["prompt"], "completion": row["response"]}) + "\n" for row in chosen
            )
        out.metric(0, prompts=len(best), kept=len(chosen))

    def owed(self, params: BestOfNParams, home: Path) -> str | None:
        return None if (home / "train.jsonl").stat().st_size else f"no prompt earned {params.min_reward}"
