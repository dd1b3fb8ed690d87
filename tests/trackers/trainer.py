"""A training script as people write them: logs each step, saves every ten, goes on from what it saved.

`trainer.py STEPS SECONDS`: the value of a step says which attempt logged it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import holdfast

steps, seconds = int(sys.argv[1]), float(sys.argv[2])
attempt = int(os.environ["HOLDFAST_ATTEMPT_NUMBER"])
state = Path(os.environ["HOLDFAST_OUT"]) / "state"
first = int(state.read_text()) + 1 if state.exists() else 1
for step in range(first, steps + 1):
    holdfast.log({"train/loss": 1 / step, "by": step + attempt / 1000}, step=step)
    time.sleep(seconds)
    if step % 10 == 0:
        fresh = state.with_name("state.new")
        fresh.write_text(str(step))
        fresh.rename(state)
