"""A library that is not installed where work runs is named with the way to have it, and not by a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.runs import environment, hold, status
from tests.tiny import write_step_170


@pytest.mark.train
def test_what_a_cast_needs_is_named_with_the_way_to_have_it(tmp_path: Path) -> None:
    write_step_170(tmp_path)
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "numpy.py").write_text(
        'raise ModuleNotFoundError("No module named \'numpy\'", name="numpy")\n'
    )
    path = os.pathsep.join([str(tmp_path / "absent"), environment()["PYTHONPATH"]])
    root = tmp_path / "root"
    done = hold(root, "convert", "results/grpo/step_170", "--dtype", "bfloat16", env={"PYTHONPATH": path}, code=1)
    assert "numpy is not installed where this runs: pip install 'holdfast[convert]'" in done.stdout
    hold(root, "convert", "results/grpo/step_170", env={"PYTHONPATH": path}, code=0)
    (name,) = {entry.name for entry in (root / "hf_eval_checkpoints").iterdir() if not entry.name.startswith(".")}
    assert status(root, name)["state"] == "complete"
