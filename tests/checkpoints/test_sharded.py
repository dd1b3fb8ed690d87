"""Models that several ranks hold a part of each, saved by real ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tests.checkpoints.models import load, logits, make_model, save
from tests.checkpoints.ranks import save_with_ranks

from holdfast.checkpoints import convert
from holdfast.checkpoints.describe import describe
from holdfast.checkpoints.plan import plan
from holdfast.checkpoints.selection import Options

pytestmark = pytest.mark.train
Save = Callable[[str, str, str], Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Save:
    """Checkpoints by mode, kind and mesh; each is written once."""

    @cache
    def make(mode: str, kind: str, mesh: str) -> Path:
        return save_with_ranks(tmp_path_factory.mktemp("ranks") / "saved", mode, kind, mesh)

    return make


@pytest.mark.parametrize(
    ("mode", "kind", "mesh"),
    [
        ("dcp", "qwen3", "2"),
        ("dcp", "qwen3_moe", "2"),
        ("dcp", "llama", "2x2"),
        ("shards", "qwen3", "2"),
        ("verl", "qwen3", "2"),
        ("verl", "qwen3_moe", "3"),
        ("verl", "llama", "2x2"),
    ],
)
def test_parts_of_ranks_are_put_together_as_the_model_that_they_are_of(
    mode: str, kind: str, mesh: str, saved: Save, tmp_path: Path
) -> None:
    import torch

    base = save(make_model(kind), tmp_path / "base")
    (tmp_path / "out").mkdir()
    convert.run(plan(saved(mode, kind, mesh), Options(model=str(base))), tmp_path / "out")
    assert torch.equal(logits(load(tmp_path / "out")), logits(make_model(kind, seed=1)))


def test_verl_finds_the_config_beside_its_rank_files(saved: Save, tmp_path: Path) -> None:
    actor = tmp_path / "global_step_5" / "actor"
    shutil.copytree(saved("verl", "qwen3", "2"), actor)
    save(make_model("qwen3"), actor / "huggingface")
    (actor / "huggingface" / "model.safetensors").unlink()
    planned = plan(tmp_path / "global_step_5")
    assert planned.said_by == "the template of qwen3"
    assert planned.recognised.sentence == "FSDP files of 2 ranks, of verl"


def test_a_table_says_how_tensors_are_sharded(saved: Save) -> None:
    for mode, prefix in (("dcp", "model."), ("verl", ""), ("shards", "")):
        rows = {row.name: row for row in describe(saved(mode, "qwen3", "2")).rows}
        row = rows[f"{prefix}model.embed_tokens.weight"]
        assert (row.sharding, row.dtype, row.shape, row.nbytes) == ("Shard(0) x2", "F32", (48, 32), 48 * 32 * 4)
