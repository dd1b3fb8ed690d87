"""Entry point of `holdfast`. Only argparse is imported here: `--help` must come at once."""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from holdfast.cli import root
from holdfast.cli.tokens import Parser, add_verb
from holdfast.core.errors import UserError

VERBS: tuple[str, ...] = ("quickstart", "launch", "evaluate", "rollout", "convert", "compare", "run")
VERBS += ("status", "logs", "why", "track", "cancel", "rm", "gc", "cache")

NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
"""What a disk refuses is for its owner to mend, not a fault of ours that a traceback would explain."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="holdfast",
        description="Run an RL post-training experiment so that finished work is never lost or repeated.",
        epilog="Exit codes: 0 done, or submitted; 1 failed; 2 your mistake; 3 owed or still in flight.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="where everything lies (default: $HOLDFAST_ROOT, the saved config, $LOG/nemo-rl, ./holdfast-runs)",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)
    for name in VERBS:
        module = importlib.import_module(f"holdfast.cli.{name}")
        add_verb(verbs, name, module).set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, call the verb, and turn the user's mistakes into two lines and exit code 2."""
    os.umask(0o002)
    # Ten thousand stages are a million objects without circles: to look for some took a third of the time of a plan.
    gc.set_threshold(100_000, 20, 20)
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.version:
        from holdfast import __version__

        print(__version__)
        return 0
    if not options.verb:
        parser.print_help()
        return 0
    options.typed_root = options.root
    try:
        options.root, options.root_is_given = root.find(options.root, options.verb)
        return int(options.run(options))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"\nhint: {root.keep(error.hint, options.typed_root)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output went away (`holdfast status | head`): keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in NOT_OURS:
            raise
        print(f"error: {error.strerror}: {error.filename or options.root}", file=sys.stderr)
        print("\nhint: look at its owner, its mode and the space that is left: ls -ld and df", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
