"""Submit what a plan still owes; typed again, it goes on."""

from __future__ import annotations

import argparse

from holdfast.cli import placement
from holdfast.cli.tokens import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "plan", metavar="PLAN", help="a plan (YAML), or the name, home or key of a stage to run again or on"
    )
    parser.add_argument(
        "override",
        nargs="*",
        metavar="KEY=VALUE",
        help="changes to the plan: stages.grpo.params.lr=1e-5, +added=1, ~removed",
    )
    parser.add_argument("--dry", action="store_true", help="print what would be submitted and why, and change nothing")
    parser.add_argument("--wait", action="store_true", help="stay until everything has ended, showing how far it is")
    placement.add_arguments(parser)
    parser.add_argument(
        "--env", action="append", metavar="NAME", help="forward this variable to SLURM jobs; its value is never stored"
    )
    parser.add_argument(
        "--stop-after", type=positive, metavar="STEP", help="training saves and stops at this step, and stays owed"
    )
    parser.add_argument(
        "--tracker",
        action="append",
        default=[],
        metavar="NAME",
        help="show metrics in wandb, tensorboard or files; repeatable (stages with `trackers:` have their own)",
    )
    parser.add_argument("--rebuild", action="store_true", help="take what is lost, outdated or stale, too")
    parser.add_argument(
        "--rerun",
        action="append",
        default=[],
        metavar="NAME",
        help="do a complete stage again; what it made is kept aside",
    )
    parser.add_argument("--trust", action="store_true", help="run a stage that another user wrote")
    parser.add_argument("--json", action="store_true", help="print the standings as JSON")


def run(options: argparse.Namespace) -> int:
    from holdfast import trackers
    from holdfast.cli import progress, table
    from holdfast.core.plan import standings
    from holdfast.execute.choose import choose_executor, group_as_before
    from holdfast.execute.scheduler import open_store
    from holdfast.execute.submit import draft, submit
    from holdfast.pipelines import again, stored

    store = open_store(options.root)
    plan = stored.plan_for(options.plan, options.override, store, trust=options.trust)
    named = {stored.named(plan, name).key for name in options.rerun}
    repeated = named | again.keys(plan, store, rebuild=options.rebuild)
    shown = tuple(dict.fromkeys(options.tracker))
    for name in shown:
        trackers.load(name)
    parts = [(plan, {})] if stored.is_plan_file(options.plan) else group_as_before(plan, store)
    more = {"stop_after": options.stop_after, "trackers": shown}
    placed = [(part, placement.read(options, before, **more)) for part, before in parts]
    if options.dry:
        drafts = [draft(part, store, where, repeated) for part, where in placed]
        return table.show_plan(drafts, store, as_json=options.json)
    for part, where in placed:
        table.show_submission(submit(part, store, choose_executor(where.executor), where, repeated), store)
    if options.wait:
        progress.wait_for(plan, store)
    found = standings(plan, store)
    table.show(found, as_json=options.json)
    return table.exit_code(found) if options.wait else 0
