"""What a supervisor can know of the allocation that it runs in, and how it asks for another one.

Standard library only: the frozen supervisor carries this file.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.core.job import LEAD_SECONDS

REQUEUE_TRIES = 5
FORBIDDEN = re.compile(r"disabled|denied|not supported|Invalid job", re.IGNORECASE)
REQUEUE_SECONDS = 60.0


@dataclass(frozen=True)
class Allocation:
    """`name` is the scheduler's (`12`, or `12_3` in an array), `restarts` how often it was started before.

    In seconds: `kill_wait` from SIGTERM to SIGKILL, `lead` from the warning to the time limit.
    """

    name: str
    restarts: int
    kill_wait: float
    lead: float

    def requeue(self) -> str:
        """Have this very job started again later, and end. Returns only if that was refused: why.

        The scheduler ends us while it answers, so this is the last thing that anybody does.
        """
        said = ""
        for _ in range(REQUEUE_TRIES):
            try:
                done = subprocess.run(
                    ["scontrol", "requeue", self.name], capture_output=True, text=True, timeout=REQUEUE_SECONDS
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                said = str(error)
            else:
                if done.returncode == 0:
                    time.sleep(REQUEUE_SECONDS)  # until the scheduler ends us
                    return "the scheduler took it, and did not end us"
                said = " ".join(done.stderr.split())
                if FORBIDDEN.search(said):
                    return said
            time.sleep(1.0)
        return said


def here(environ: Mapping[str, str] = os.environ) -> Allocation | None:
    """The allocation of this process, None outside of one."""
    job = environ.get("SLURM_ARRAY_JOB_ID") or environ.get("SLURM_JOB_ID")
    if not job:
        return None
    index = environ.get("SLURM_ARRAY_TASK_ID")
    return Allocation(
        f"{job}_{index}" if index else job,
        int(environ.get("SLURM_RESTART_COUNT") or 0),
        float(environ.get("HOLDFAST_KILL_WAIT") or 30.0),
        float(environ.get("HOLDFAST_LEAD") or LEAD_SECONDS),
    )
