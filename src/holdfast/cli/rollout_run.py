"""Collect what a config owes: engine, environment and collection in one job. Typed again, it goes on.

KEY=VALUE sets a key of the config. The job tries again by itself after a crash or a stall; more repeats or appended
prompts ask only for the difference.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from holdfast.cli import where
from holdfast.cli.tokens import count, positive, take_overrides

if TYPE_CHECKING:
    from holdfast.pipelines.rollouts.request import Request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML file")
    take_overrides(parser, "overrides of the config")
    parser.add_argument("--jobname", metavar="NAME", help="where it goes below rollouts/ (default: the config's name)")
    parser.add_argument("--engine", metavar="NAME", help="vllm, sglang, transformers, url, fake, package.module:Class")
    parser.add_argument("--url", metavar="URL", help="ask a server that runs already")
    parser.add_argument("--new", action="store_true", help="a fresh collection of the same, under a name of its own")
    parser.add_argument("--once", action="store_true", help="a single try: a crash or a stall ends the job")
    parser.add_argument("--slices", type=positive, metavar="N", help="so many tasks with an engine each")
    where.add_arguments(parser, usual_time="4:0:0")
    where.add_forwarded(parser)
    parser.add_argument("--dry", action="store_true", help="print plan, states and scripts; change nothing")
    parser.add_argument("--wait", action="store_true", help="stay until it has ended, and say how far it is")
    parser.add_argument("--max-parallel", type=positive, metavar="N", help="slices at a time (default: 1 here)")
    parser.add_argument(
        "--accept-missing", type=count, metavar="N", help="publish although so many rollouts were given up"
    )
    parser.add_argument("--rebuild", action="store_true", help="take what is lost, outdated or stale, too")
    parser.add_argument("--json", action="store_true", help="print the standings as JSON")


def run(options: argparse.Namespace) -> int:
    from holdfast.cli import rollout_live, rollout_report, table
    from holdfast.core.plan import standings
    from holdfast.execute.scheduler import open_store
    from holdfast.pipelines.rollouts import submission

    store = open_store(options.root)
    prepared = submission.prepare(
        request(options),
        store,
        options.executor,
        options.max_parallel,
        has_root=options.root_is_given,
        rebuild=options.rebuild,
    )
    found = prepared.collected
    rollout_report.notes(found)
    if options.dry:
        return rollout_report.dry(submission.draft_all(prepared, store), store, as_json=options.json)
    table.show_submission(submission.submit_all(prepared, store), store)
    if options.wait:
        rollout_live.watch(lambda: standings(found.plan, store))
        rollout_live.wait_for_views(store, found.record)
    now = standings(found.plan, store)
    rollout_report.show(found, now, store, as_json=options.json)
    return table.exit_code(now) if options.wait else 0


def request(options: argparse.Namespace) -> Request:
    """What the command line says."""
    from pathlib import Path

    from holdfast.core.errors import UserError
    from holdfast.pipelines.rollouts.request import Request

    placed = where.read(options, "holdfast rollout run --help")
    if options.behind:
        raise UserError(f"nothing takes what stands behind --: {options.behind[0]}", "holdfast rollout run --help")
    return Request(
        Path(options.config),
        placed,
        engine=options.engine,
        url=options.url,
        accept_missing=options.accept_missing,
        slices=options.slices,
        once=options.once,
    )
