"""`holdfast evaluate --runner nemo-rl`: the conversion, and then the launch of NeMo RL's own script."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace


def run(options: argparse.Namespace) -> int:
    from holdfast.cli import launch_report, progress, table, talk
    from holdfast.cli.evaluate import request
    from holdfast.core.plan import standings
    from holdfast.execute.choose import choose_executor
    from holdfast.execute.scheduler import open_store
    from holdfast.execute.submit import draft, submit
    from holdfast.pipelines import conversion
    from holdfast.pipelines.evaluate import nemo_rl
    from holdfast.pipelines.launch import submission

    store = open_store(options.root)
    handed = nemo_rl.hand_over(request(options), store)
    prepared = submission.prepare(
        handed.request, store, options.executor, options.max_parallel, has_root=options.root_is_given
    )
    again = conversion.again(handed.conversion, store, force=options.force_conversion) if handed.conversion else set()
    if handed.conversion:
        print(handed.conversion.says, file=sys.stderr)
    talk.notes(prepared.launch.notes, prepared.launch.same)
    where = submission.for_conversion(prepared)
    if options.dry:
        prepared = replace(prepared, launch=replace(prepared.launch, adopted=(*prepared.launch.adopted, *handed.plan)))
        drafts = [draft(handed.plan, store, where, again)] if len(handed.plan) else []
        drafts += submission.draft_all(prepared, store, rerun=options.rerun, rebuild=options.rebuild)
        return launch_report.dry(prepared, drafts, store, as_json=options.json)
    if len(handed.plan):
        table.show_submission(submit(handed.plan, store, choose_executor(where.executor), where, again), store)
    for done in submission.submit_all(prepared, store, rerun=options.rerun, rebuild=options.rebuild):
        table.show_submission(done, store)
    if options.wait:
        progress.wait_for(handed.plan, store)
        progress.wait_for(prepared.launch.plan, store)
    found = [*standings(handed.plan, store), *standings(prepared.launch.plan, store)]
    table.show(found, as_json=options.json)
    return table.exit_code(found) if options.wait else 0
