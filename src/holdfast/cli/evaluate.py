"""Evaluate a model, or a checkpoint that is converted first: a score with its error bar.

KEY=VALUE sets a key of the config, which has NeMo RL's keys (examples/configs/eval.yaml). Typed again, it goes on;
more responses to each prompt ask only for the difference.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from holdfast.cli import where
from holdfast.cli.tokens import count, take_overrides

if TYPE_CHECKING:
    from holdfast.core.store import Store
    from holdfast.pipelines.evaluate.request import Request
    from holdfast.pipelines.evaluate.submission import Prepared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    take_overrides(parser, "overrides of the config")
    _add_what(parser)
    _add_conversion(parser)
    where.add_arguments(parser, usual_time="2:0:0")
    where.add_forwarded(parser)
    _add_how(parser)


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="a config over the defaults (default: NeMo RL's eval.yaml)")
    parser.add_argument("--sweep", metavar="FILE", help="a YAML file with the values to combine")
    parser.add_argument("--jobname", metavar="NAME", help="where it goes below evals/ (default: eval)")
    parser.add_argument(
        "--engine",
        metavar="NAME",
        help="vllm, sglang, transformers, url, fake (default: vllm where GPUs are asked for, otherwise transformers)",
    )
    parser.add_argument("--url", metavar="URL", help="ask a server that runs already")
    parser.add_argument(
        "--runner",
        choices=("holdfast", "nemo-rl"),
        default="holdfast",
        help="nemo-rl launches NeMo RL's own examples/run_eval.py (default: holdfast)",
    )
    parser.add_argument("--script", metavar="FILE", help="of --runner nemo-rl (default: examples/run_eval.py)")
    parser.add_argument("--new", action="store_true", help="a fresh result of the same work, under a name of its own")


def _add_conversion(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the checkpoint", "What training wrote, converted once for all who need it")
    group.add_argument("--dcp-ckpt-path", metavar="DIR", help="the checkpoint to convert and evaluate")
    group.add_argument(
        "--dcp-config", metavar="FILE", help="config.yaml of its run, or a directory of its model (default: beside it)"
    )
    group.add_argument("--hf-ckpt-path", metavar="DIR", help="put the converted checkpoint here, too")
    group.add_argument("--skip-conversion", action="store_true", help="use what was converted before, or fail")
    group.add_argument("--force-conversion", action="store_true", help="convert again; readers keep what they have")


def _add_how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry", action="store_true", help="print plan, states, names and scripts; change nothing")
    parser.add_argument("--wait", action="store_true", help="stay until everything has ended, and show the scores")
    parser.add_argument("--max-parallel", type=int, metavar="N", help="points at a time (default: 1 on this machine)")
    parser.add_argument(
        "--accept-missing",
        type=count,
        default=0,
        metavar="N",
        help="publish with so many responses missing, for reasons that no further try mends",
    )
    parser.add_argument("--rerun", action="store_true", help="publish complete points again, from the same responses")
    parser.add_argument("--rebuild", action="store_true", help="take what is lost, outdated or stale, too")
    parser.add_argument("--json", action="store_true", help="print standings and scores as JSON")


def run(options: argparse.Namespace) -> int:
    from holdfast.cli import evaluate_report, table
    from holdfast.core.plan import standings
    from holdfast.execute.scheduler import open_store
    from holdfast.pipelines.evaluate import submission

    if options.runner == "nemo-rl":
        from holdfast.cli import evaluate_nemo_rl

        return evaluate_nemo_rl.run(options)
    store = open_store(options.root)
    prepared = submission.prepare(
        request(options),
        store,
        options.executor,
        options.max_parallel,
        has_root=options.root_is_given,
        rerun=options.rerun,
        rebuild=options.rebuild,
    )
    found = prepared.evaluations
    evaluate_report.notes(found)
    if options.dry:
        return evaluate_report.dry(prepared, submission.draft_all(prepared, store), store, as_json=options.json)
    table.show_submission(submission.submit_all(prepared, store), store)
    if options.wait:
        _wait(prepared, store)
    now = standings(found.plan, store)
    evaluate_report.show(found, now, store, as_json=options.json)
    return table.exit_code(evaluate_report.wanted(found, now)) if options.wait else 0


def _wait(prepared: Prepared, store: Store) -> None:
    """Until all of it has ended. A conversion whose maker died elsewhere meanwhile is begun again, so often."""
    from dataclasses import replace

    from holdfast.cli import progress, table
    from holdfast.core.plan import Reader
    from holdfast.pipelines import takeover
    from holdfast.pipelines.evaluate import submission

    plan, conversion = prepared.evaluations.plan, prepared.evaluations.conversion
    record = conversion.record if conversion else None
    progress.wait_for(plan, store)
    for _ in range(takeover.MOST_DEATHS):
        if record is None or not takeover.is_left_behind(Reader(store, plan).standing(record), store):
            return
        submitted = submission.submit_all(replace(prepared, again=frozenset()), store)
        table.show_submission(submitted, store)
        progress.wait_for(plan, store)


def request(options: argparse.Namespace) -> Request:
    """What the command line says."""
    from pathlib import Path

    from holdfast.pipelines.evaluate.request import Request

    paths = {name: Path(value) if value else None for name, value in _paths(options).items()}
    return Request(
        placed=where.read(options, "holdfast evaluate --help"),
        skip_conversion=options.skip_conversion,
        force_conversion=options.force_conversion,
        engine=options.engine,
        url=options.url,
        accept_missing=options.accept_missing,
        **paths,
    )


def _paths(options: argparse.Namespace) -> dict[str, str | None]:
    return {
        "checkpoint": options.dcp_ckpt_path,
        "checkpoint_config": options.dcp_config,
        "hf_path": options.hf_ckpt_path,
    }
