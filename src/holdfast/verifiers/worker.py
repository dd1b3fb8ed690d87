"""A process that grades: `python -m holdfast.verifiers.worker NAME`. `VerifierPool` starts it, and kills it.

It answers each line of JSON on stdin, `{"id", "response", "solution"}`, by one on what was stdout when it started,
`{"id", "reward", "answer"}` or `{"id", "error"}`. Whatever a verifier prints goes to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import signal
import sys
from typing import IO, Any

from holdfast.core.errors import UserError
from holdfast.verifiers import Verifier, load_verifier

LONGEST_ANSWER = 4096
GRACE = 5.0
"""Seconds beyond the deadline after which a worker ends itself, should nobody be left who kills it."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Grade what comes on stdin.", allow_abbrev=False)
    parser.add_argument("name")
    parser.add_argument("--deadline", type=float, required=True)
    parser.add_argument("--memory", type=int, required=True)
    options = parser.parse_args()
    questions, replies = _take_pipes()
    _limit(options.memory)
    try:
        verifier = load_verifier(options.name)
        _warm_up(verifier)
    except UserError as error:
        _say(replies, {"refused": str(error), "hint": error.hint})
        return 1
    _say(replies, {"ready": verifier.version})
    for line in questions:
        # The kernel ends us, whatever we compute: also when whoever asked is gone.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, options.deadline + GRACE)
        _say(replies, _answer(verifier, json.loads(line)))
        signal.setitimer(signal.ITIMER_REAL, 0)
    return 0


def _take_pipes() -> tuple[IO[str], IO[str]]:
    """Keep stdin and stdout to ourselves: a verifier reads nothing, and what it prints goes to stderr."""
    questions = os.fdopen(os.dup(0), encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return questions, replies


def _limit(memory: int) -> None:
    """At most so many bytes of data, and no dump of them."""
    for limit, value in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_CORE, 0)):
        most = resource.getrlimit(limit)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        # A system that knows no such limit (macOS) refuses it.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))


def _warm_up(verifier: Verifier) -> None:
    """Load what a verifier loads when it first grades: that is no part of anybody's deadline.

    Raises:
        UserError: a library is missing.
    """
    if verifier.name != "math":
        return
    try:
        verifier.grade("\\boxed{1}", "1")
    except ImportError as error:
        raise UserError(
            f"verifier math needs math-verify, which is not there: {error}", "pip install 'holdfast[evals]'"
        ) from None


def _answer(verifier: Verifier, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        reward, answer = verifier.grade(asked["response"], asked["solution"])
    except Exception as error:  # noqa: BLE001 - a verifier may raise anything, and this process only reports it
        says = f"{type(error).__name__}: {error}"[:2000]
        return {"id": asked["id"], "error": says, "unsound": isinstance(error, MemoryError | RecursionError)}
    return {"id": asked["id"], "reward": reward, "answer": _clip(answer)}


def _clip(answer: str | None) -> str | None:
    """Equal answers stay equal, and a row stays a row."""
    if answer is None or len(answer) <= LONGEST_ANSWER:
        return answer
    return f"{answer[:200]}...{hashlib.sha256(answer.encode(errors='surrogatepass')).hexdigest()}"


def _say(replies: IO[str], content: dict[str, Any]) -> None:
    replies.write(json.dumps(content) + "\n")
    replies.flush()


if __name__ == "__main__":
    sys.exit(main())
