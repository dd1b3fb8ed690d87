"""Watch a small model learn, be stopped, evaluated and resumed, on this machine.

Needs neither a GPU nor a network, and about four minutes on two cores. Typed again, it shows the same table and runs
nothing; killed anywhere, it goes on.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.core.store import Store
    from holdfast.execute.submit import Placement
    from holdfast.pipelines.quickstart import Experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", metavar="A,B", help="seeds of the two runs (default: drawn once and kept)")


def run(options: argparse.Namespace) -> int:
    from holdfast.core.plan import State, standings
    from holdfast.core.store import Store
    from holdfast.execute.submit import Placement
    from holdfast.pipelines import quickstart

    store = Store(options.root)
    store.prepare()
    seeds = quickstart.seeds(store.root, _parse_seeds(options.seeds))
    experiment = quickstart.experiment(seeds)
    reused = sum(standing.state is State.COMPLETE for standing in standings(experiment.plan(), store))
    parallel = quickstart.cores()
    half = Placement(max_parallel=parallel, stop_after=quickstart.HALF)
    phases = [
        ("make a small model, and teach it to add badly", 0, Placement()),
        (f"two GRPO runs to step {quickstart.HALF} of {quickstart.STEPS}, stop, evaluate", quickstart.HALF, half),
        ("resume both, evaluate", quickstart.STEPS, Placement(max_parallel=parallel)),
    ]
    for title, step, placement in phases:
        code = _do(title, experiment, store, placement, step)
        if code:
            return code
    return _show(experiment, store, reused)


def _parse_seeds(text: str | None) -> list[int] | None:
    from holdfast.core.errors import UserError

    if text is None:
        return None
    parts = text.split(",")
    if len(set(parts)) != 2 or not all(part.isdigit() for part in parts):
        raise UserError(f"--seeds is {text!r}, expected two different numbers", "for example --seeds 3,4")
    return [int(part) for part in parts]


def _do(title: str, experiment: Experiment, store: Store, placement: Placement, step: int) -> int:
    """Submit what one phase owes and wait; 0 when nothing of it is missing any more."""
    import sys

    from holdfast.cli import progress, table
    from holdfast.core.plan import missing, standings
    from holdfast.execute.local import LocalExecutor
    from holdfast.execute.submit import submit

    wanted = experiment.until(step, store)
    if not missing(wanted, store):
        return 0
    print(f"\n{title}", file=sys.stderr)
    submit(wanted, store, LocalExecutor(), placement)
    progress.wait_for(wanted, store)
    still = missing(experiment.until(step, store), store)
    if still:
        table.show(still, as_json=False)
        print("\nnot finished; `holdfast why NAME` says more, and the same command goes on", file=sys.stderr)
        return table.exit_code(standings(wanted, store))
    return 0


def _show(experiment: Experiment, store: Store, reused: int) -> int:
    from holdfast.pipelines import learning_curve, quickstart

    curve = learning_curve.read(experiment.evaluated, store)
    figure = store.root / "quickstart.png"
    title = "GRPO on two-digit addition: 0.6M parameters, no GPU"
    learning_curve.draw(curve, figure, title, {quickstart.HALF: "stopped, evaluated, resumed"})
    total = len(experiment.records)
    print("\n".join(learning_curve.lines(curve)))
    print()
    print(f"{reused} of {total} stages were complete before and reused, {total - reused} were done now")
    for what, where in experiment.places(store).items():
        print(f"{what:<12} {where}")
    print(f"{'curve':<12} {figure}")
    return 0
