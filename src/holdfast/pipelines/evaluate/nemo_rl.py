"""Has NeMo RL's own `examples/run_eval.py` do the evaluation, launched like any other program.

The checkpoint is converted first, by us; the script learns its path as `generation.model_name`. What it prints and
writes is its own: it has neither intervals nor resume.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from holdfast.core.plan import Plan
from holdfast.core.store import Store
from holdfast.execute.choose import cluster_defaults
from holdfast.pipelines import conversion
from holdfast.pipelines.conversion import Conversion
from holdfast.pipelines.evaluate.planner import FOLDER, MODEL
from holdfast.pipelines.evaluate.request import DEFAULT_NAME, DEFAULT_TIME, Request, wish
from holdfast.pipelines.launch import request as launches
from holdfast.pipelines.launch.request import Input

SCRIPT = "examples/run_eval.py"
PROFILE = "nemo-rl-eval"


@dataclass(frozen=True)
class Handed:
    """The conversion, None without a checkpoint, and what `launch` is asked."""

    conversion: Conversion | None
    request: launches.Request

    @property
    def plan(self) -> Plan:
        """What must be submitted before the script is."""
        return self.conversion.plan() if self.conversion else Plan([])


def hand_over(request: Request, store: Store) -> Handed:
    """The launch of NeMo RL's script for a request.

    Raises:
        UserError: it asks for something impossible.
    """
    asked = wish(request)
    planned = conversion.plan(asked, store) if asked else None
    inputs: tuple[Input, ...] = ()
    if planned:
        home = store.home(planned.record or planned.adopted[0])
        inputs = (Input("model", MODEL, planned.model, home),)
    placed = request.placed
    return Handed(
        planned,
        replace(
            placed,
            script=placed.script or (None if placed.sweep else SCRIPT),
            tokens=request.tokens,
            usual_name=DEFAULT_NAME,
            time=placed.time or str(cluster_defaults().time or DEFAULT_TIME),
            profile=PROFILE,
            folder=FOLDER,
            inputs=inputs,
            adopted=planned.adopted if planned else (),
        ),
    )
