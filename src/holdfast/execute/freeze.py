"""Freezes the supervisor: one file per job that needs nothing but a Python interpreter, and does not change when we
do.
"""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

CARRIED = (
    "core/errors.py",
    "core/files.py",
    "core/leaves.py",
    "core/process.py",
    "core/stage.py",
    "core/artifact.py",
    "core/generations.py",
    "core/attempt.py",
    "core/job.py",
    "core/record.py",
    "core/store.py",
    "core/plan.py",
    "execute/diagnosis.py",
    "execute/outsiders.py",
    "execute/slots.py",
    "execute/heartbeat.py",
    "execute/sidecars.py",
    "execute/allocation.py",
    "execute/continuation.py",
    "execute/launchers.py",
    "execute/services.py",
    "execute/patience.py",
    "execute/ray_cluster.py",
    "execute/supervisor.py",
    "execute/runner.py",
)
ENTRY = "import sys\nfrom holdfast.execute.runner import main\nsys.exit(main())\n"


@cache
def frozen() -> bytes:
    """The bytes of `supervisor.pyz`: the carried modules as they are, uncompressed, so that one can read them in
    place.
    """
    package = Path(__file__).parents[1]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in ("__init__.py", "core/__init__.py", "execute/__init__.py"):
            archive.writestr(_entry(f"holdfast/{name}"), "")
        for name in CARRIED:
            archive.writestr(_entry(f"holdfast/{name}"), (package / name).read_bytes())
        archive.writestr(_entry("__main__.py"), ENTRY)
    return buffer.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
