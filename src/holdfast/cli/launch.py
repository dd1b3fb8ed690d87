"""Launch a training script, or a sweep over one, on this machine or on SLURM; typed again, it goes on.

KEY=VALUE, +KEY=VALUE and ~KEY reach the script as they are, wherever they stand; everything behind -- does, too.
"""

from __future__ import annotations

import argparse

from holdfast.cli import where
from holdfast.cli.tokens import take_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    take_overrides(parser, "overrides for the script")
    _add_what(parser)
    where.add_arguments(parser, usual_time="4:0:0")
    parser.add_argument(
        "--launcher", choices=("plain", "torchrun", "ray"), help="what starts it (default: the profile's)"
    )
    _add_how(parser)


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--script", metavar="FILE", help="the script to run (required unless the sweep names it)")
    parser.add_argument("--config", metavar="FILE", help="its YAML config")
    parser.add_argument("--sweep", metavar="FILE", help="a YAML file with the values to combine")
    parser.add_argument(
        "--jobname", metavar="NAME", help="where it goes below the root (default: the script's name without .py)"
    )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help="what kind of program it is: plain, nemo-rl, trl, verl, or a YAML file (default: seen from the config)",
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="set a variable, as part of what the work is; or forward one by name, never stored",
    )
    parser.add_argument("--new", action="store_true", help="a fresh result of the same work, under a name of its own")


def _add_how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry", action="store_true", help="print plan, states, names and exact commands; change nothing"
    )
    parser.add_argument("--wait", action="store_true", help="stay until everything has ended, showing how far it is")
    parser.add_argument("--max-parallel", type=int, metavar="N", help="points at a time (default: 1 on this machine)")
    parser.add_argument(
        "--snapshot", action="store_true", help="run a copy of the repository, so that edits do not matter"
    )
    parser.add_argument(
        "--interpreter", metavar="COMMAND", help="what runs the script (default: uv run where it has uv.lock)"
    )
    parser.add_argument(
        "--tracker",
        action="append",
        default=[],
        metavar="NAME",
        dest="trackers",
        help="show what it logs to $HOLDFAST_METRICS in wandb, tensorboard or files; repeatable",
    )
    parser.add_argument("--rerun", action="store_true", help="do complete points again; what they made is kept aside")
    parser.add_argument("--rebuild", action="store_true", help="take what is lost, outdated or stale, too")
    parser.add_argument("--json", action="store_true", help="print the standings as JSON")


def run(options: argparse.Namespace) -> int:
    from holdfast.cli import launch_report, progress, table, talk
    from holdfast.core.plan import standings
    from holdfast.execute.scheduler import open_store
    from holdfast.pipelines.launch import submission

    store = open_store(options.root)
    request = where.read(options, "to pass it on: -- {token}")
    prepared = submission.prepare(
        request, store, options.executor, options.max_parallel, has_root=options.root_is_given
    )
    launch = prepared.launch
    talk.notes(launch.notes, launch.same)
    if options.dry:
        drafts = submission.draft_all(prepared, store, rerun=options.rerun, rebuild=options.rebuild)
        return launch_report.dry(prepared, drafts, store, as_json=options.json)
    for done in submission.submit_all(prepared, store, rerun=options.rerun, rebuild=options.rebuild):
        table.show_submission(done, store)
    launch_report.changed_code(prepared, store)
    if options.wait:
        progress.wait_for(launch.plan, store)
    found = standings(launch.plan, store)
    table.show(found, as_json=options.json)
    return table.exit_code(found) if options.wait else 0
