"""Convert a checkpoint into a model directory that inference reads, once, at the speed of copying its files.

Reads torch.distributed checkpoints (DCP), those of NeMo RL, verl's FSDP files, PEFT adapters and our own; nothing that
they hold is executed. Prints where the result is.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.cli import placement

TOTALS = ("tensors", "elements", "bytes")

if TYPE_CHECKING:
    from holdfast.checkpoints.describe import Description
    from holdfast.core.plan import Standing
    from holdfast.core.store import Store
    from holdfast.pipelines.conversion import Conversion, Wish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="the directory that the trainer saved, e.g. step_170")
    parser.add_argument("--dcp-config", metavar="FILE", help="config.yaml of its run (default: the one beside it)")
    parser.add_argument("--model", metavar="NAME", help="the model that it began from: a directory, or a hub's name")
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="cast the weights (default: keep what is there)",
    )
    parser.add_argument(
        "--adapter",
        choices=("merge", "export"),
        default="merge",
        help="a PEFT adapter is merged (default) or copied",
    )
    parser.add_argument("--hf-ckpt-path", metavar="DIR", help="put the result here, too")
    parser.add_argument("--skip-conversion", action="store_true", help="use what was converted before, or fail")
    parser.add_argument("--force-conversion", action="store_true", help="convert again; readers keep what they have")
    parser.add_argument("--inspect", action="store_true", help="only print tensors, dtypes, sharding, sizes")
    parser.add_argument("--verify", action="store_true", help="compare both sides afterwards, tensor by tensor")
    parser.add_argument("--dry", action="store_true", help="print what would be done")
    parser.add_argument("--no-wait", action="store_true", help="return once it is submitted")
    parser.add_argument("--json", action="store_true", help="print the standing, or what --inspect found, as JSON")
    placement.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    from holdfast.execute.scheduler import open_store
    from holdfast.pipelines import conversion

    if options.inspect:
        return _inspect(options)
    store = open_store(options.root)
    wish = _wish(options)
    planned = conversion.plan(wish, store)
    _say(planned.says)
    if planned.record is None:
        print(planned.adopted[0].home)
        return 0
    return _dry(options, planned, store) if options.dry else _convert(options, wish, planned, store)


def _wish(options: argparse.Namespace) -> Wish:
    from holdfast.pipelines.conversion import Wish

    return Wish(
        checkpoint=Path(options.checkpoint),
        config=Path(options.dcp_config) if options.dcp_config else None,
        model=options.model,
        dtype=options.dtype,
        adapter=options.adapter,
        out=Path(options.hf_ckpt_path) if options.hf_ckpt_path else None,
        skip=options.skip_conversion,
        force=options.force_conversion,
    )


def _say(text: str) -> None:
    import sys

    print(text, file=sys.stderr)


def _inspect(options: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from holdfast.checkpoints import describe

    found = describe.describe(Path(options.checkpoint))
    if options.json:
        totals = {dtype: dict(zip(TOTALS, each, strict=True)) for dtype, each in found.totals.items()}
        rows = [asdict(row) for row in found.rows]
        says = {"is": found.recognised.sentence, "weights": str(found.recognised.weights)}
        print(json.dumps({**says, "tensors": rows, "others": found.others, "totals": totals}, indent=1))
        return 0
    _say(f"{found.recognised.sentence}: {found.recognised.weights}")
    print("\n".join(_table(found)))
    return 0


def _table(found: Description) -> list[str]:
    from holdfast.core.columns import align

    rows = [
        (row.name, row.dtype, "x".join(map(str, row.shape)) or "scalar", row.sharding, f"{row.nbytes:,}", row.remark)
        for row in found.rows
    ]
    rows = [("tensor", "dtype", "shape", "sharding", "bytes", ""), *rows]
    others = [f"no tensor: {name} ({what})" for name, what in found.others.items()]
    totals = [
        f"{dtype}: {tensors:,} tensors, {elements:,} elements, {size:,} bytes"
        for dtype, (tensors, elements, size) in found.totals.items()
    ]
    return [*align(rows), *others, "", *totals]


def _dry(options: argparse.Namespace, planned: Conversion, store: Store) -> int:
    from holdfast.cli import table
    from holdfast.execute.submit import draft
    from holdfast.pipelines import conversion

    again = conversion.again(planned, store, force=options.force_conversion)
    return table.show_plan(
        [draft(planned.plan(), store, placement.read(options, {}), again)], store, as_json=options.json
    )


def _convert(options: argparse.Namespace, wish: Wish, planned: Conversion, store: Store) -> int:
    from holdfast.cli import progress, table
    from holdfast.core.plan import State, standings
    from holdfast.execute.choose import choose_executor
    from holdfast.execute.submit import submit
    from holdfast.pipelines import conversion
    from holdfast.pipelines.takeover import Takeover

    assert planned.record
    where = placement.read(options, {})
    executor = choose_executor(where.executor)
    if options.no_wait:
        again = conversion.again(planned, store, force=wish.force)
        table.show_submission(submit(planned.plan(), store, executor, where, again), store)
        (standing,) = standings(planned.plan(), store)
    else:
        wanted = Takeover(planned.plan(), planned.record, store, executor, where, force=wish.force)
        standing = wanted.see_through(progress.watch_closely, lambda done: table.show_submission(done, store))
    if standing.state is State.COMPLETE:
        conversion.finish(wish, planned, store, verify=options.verify, say=_say)
    _show(options, standing, store)
    return 0 if options.no_wait else table.exit_code([standing])


def _show(options: argparse.Namespace, standing: Standing, store: Store) -> None:
    from holdfast.cli import table
    from holdfast.core.plan import State

    if options.json or standing.state is not State.COMPLETE:
        table.show([standing], as_json=options.json)
    else:
        print(options.hf_ckpt_path or store.home(standing.record))
