"""Judge published rollouts again, by a corrected environment or another verifier; no engine is asked.

KEY=VALUE sets a setting of the environment (verifier=math, for example). The old rewards stay.
"""

from __future__ import annotations

import argparse

from holdfast.cli.tokens import count, take_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the rollouts: name, home or key")
    take_overrides(parser, "settings of the environment")
    parser.add_argument("--environment", metavar="NAME", help="who judges (default: who did so before)")
    parser.add_argument("--jobname", metavar="NAME", help="where it goes below rollouts/ (default: NAME-rescored)")
    parser.add_argument("--accept-missing", type=count, default=0, metavar="N", help="so many without a judgement")
    parser.add_argument("--rerun", action="store_true", help="again, although it is complete")
    parser.add_argument("--json", action="store_true", help="print the standing as JSON")


def run(options: argparse.Namespace) -> int:
    from holdfast.cli.rollout_derived import make
    from holdfast.core.errors import UserError
    from holdfast.execute.scheduler import open_store
    from holdfast.pipelines.rollouts import derived

    if options.token:
        raise UserError(f"`{options.token[0]}` is no KEY=VALUE", "holdfast rollout rescore --help")
    store = open_store(options.root)
    found = derived.plan_rescore(
        options.name, store, options.tokens, options.environment, options.jobname, options.accept_missing
    )
    return make(found, store, rerun=options.rerun, as_json=options.json)
