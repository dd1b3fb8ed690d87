"""The fake engine: deterministic, fast, and as bad as it is told to be. Ships for tests, demonstrations and benches.

    python -m holdfast.engines.fake --port 8000 --accuracy 0.7 --latency 0.2
    python -m holdfast.engines.fake --port 8000 --fault 500@0.1 --fault 429:20 --dies-after 1000

It speaks `/v1/completions`, `/v1/chat/completions`, `/v1/models`, `/health` and `/metrics`. The last arithmetic problem
of a prompt is solved, rightly with probability `--accuracy`; any other prompt is answered with words. A response is a
function of model, prompt and seed; without a seed, of how often the prompt was asked. A chat with tools, or with a
board of Tetris, is played (`holdfast.engines.fake_play`); `--bad-json` and `--bad-tool` are shares of calls that cannot
be carried out, `--calls` how many there are before the answer, and with `--endless` it never stops calling.

`--fault KIND[@SHARE][:FIRST]` befalls a share of the requests (drawn for each anew, so that a second try may go well),
of the first so many only: 500, 503 and 429 (with Retry-After), 400, hang, close, half (of a body), garbage (no HTTP),
html, shape (JSON of another shape), empty (no choices), abort, context (too long). `fake_server.special_seed(KIND)` is
a seed that meets it for certain. `--dies-after N` and `--hangs-after N` count requests; `--start-delay S` and
`--never-ready` are about `/health`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from holdfast.core.service import Service
from holdfast.engines import EVERY_FIELD, Capabilities, Engine
from holdfast.engines.fake_answers import STYLES, Manner
from holdfast.engines.fake_server import FAULTS, Behaviour, Fault, serve


class Fake(Engine):
    """Serves no weights: of the model it knows the name. `engine_arguments` are the options above, `--accuracy 0.7`
    for example.
    """

    name = "fake"
    capabilities = Capabilities(EVERY_FIELD)
    options = frozenset({"engine_timeout", "engine_arguments"})

    def service(self, model: Path, tokens: int) -> Service:
        """See `Engine.service`."""
        program = (sys.executable, "-m", "holdfast.engines.fake", "--port", "{port}", "--host", "{host}")
        command = (*program, "--model", model.name, "--root", str(model), *self.serving.engine_arguments)
        return Service("engine", command, timeout=self.serving.engine_timeout)


def main(arguments: Sequence[str] | None = None) -> None:
    """Become the server."""
    options = _parser().parse_args(arguments)
    behaviour = Behaviour(
        model=options.model,
        root=options.root,
        manner=_manner(options),
        latency=options.latency,
        start_delay=options.start_delay,
        never_ready=options.never_ready,
        dies_after=options.dies_after,
        hangs_after=options.hangs_after,
        faults=tuple(options.fault),
        refuses=frozenset(options.refuses),
        retry_after=options.retry_after,
        context=options.context,
        log=options.log,
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(behaviour, options.port, options.host))


def _manner(options: argparse.Namespace) -> Manner:
    said = (options.accuracy, options.style, options.words)
    return Manner(*said, options.bad_json, options.bad_tool, options.endless, options.calls)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: loopback)")
    parser.add_argument("--model", default="fake", help="the name in requests (default: fake)")
    parser.add_argument("--root", default="", help="where /v1/models says the model comes from")
    parser.add_argument("--accuracy", type=float, default=1.0, metavar="P", help="of arithmetic (default: 1)")
    parser.add_argument("--style", choices=STYLES, default="plain", help="what an answer is wrapped in")
    parser.add_argument("--words", type=int, default=0, metavar="N", help="words before an answer")
    parser.add_argument("--bad-json", type=float, default=0.0, metavar="P", help="of tool calls, without their end")
    parser.add_argument("--bad-tool", type=float, default=0.0, metavar="P", help="of tool calls, of no tool there is")
    parser.add_argument("--calls", type=int, default=1, metavar="N", help="of a tool before the answer (default: 1)")
    parser.add_argument("--endless", action="store_true", help="call tools and never stop")
    parser.add_argument("--context", type=int, metavar="N", help="tokens that prompt and answer may have together")
    parser.add_argument("--latency", type=float, default=0.0, metavar="S", help="seconds until an answer")
    parser.add_argument("--start-delay", type=float, default=0.0, metavar="S", help="seconds until it is ready")
    parser.add_argument("--never-ready", action="store_true")
    parser.add_argument("--dies-after", type=int, metavar="N", help="requests")
    parser.add_argument("--hangs-after", type=int, metavar="N", help="requests")
    parser.add_argument("--fault", type=_fault, action="append", default=[], metavar="KIND[@SHARE][:FIRST]")
    parser.add_argument("--refuses", action="append", default=[], metavar="FIELD", help="answer 422 to it")
    parser.add_argument("--retry-after", type=float, default=0.1, metavar="S", help="said with 429 and 503")
    parser.add_argument("--log", metavar="FILE", help="note every request there, a JSON line each")
    return parser


def _fault(text: str) -> Fault:
    rest, _, first = text.partition(":")
    kind, _, share = rest.partition("@")
    if kind not in FAULTS:
        raise argparse.ArgumentTypeError(f"no fault `{kind}`; there are {', '.join(FAULTS)}")
    return Fault(kind, float(share or 1), int(first or sys.maxsize))


if __name__ == "__main__":
    main()
