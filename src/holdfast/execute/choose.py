"""Which executor takes a job."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from holdfast.core.errors import UserError
from holdfast.execute.local import LocalExecutor
from holdfast.execute.submit import Executor

NAMES = ("auto", "local", "slurm")


def settle_name(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """`local` or `slurm`; `auto` is local inside an allocation and where there is no SLURM.

    A controller that cannot be reached is an error later on, never a reason to run here.
    """
    if name != "auto":
        return name
    return "local" if "SLURM_JOB_ID" in environ or shutil.which("sbatch") is None else "slurm"


def choose_executor(name: str, environ: Mapping[str, str] = os.environ) -> Executor:
    """The executor of this name.

    Raises:
        UserError: there is none.
    """
    if settle_name(name, environ) == "local":
        return LocalExecutor()
    raise UserError("jobs cannot be submitted to SLURM yet", "run them on this machine: --executor local")
