"""Look at rollouts in a browser: a list to filter and sort, transcripts, the repeats of a prompt side by side.

It takes a stage, a file of rows (ours, NeMo Gym's) or a directory of them, also while they are written, and follows.
Only this machine can reach it, unless --host says otherwise; then the URL holds a token.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME|FILE", help="a stage, a file of rows, or a directory of them")
    parser.add_argument("--port", type=int, metavar="N", help="where to listen (default: the first free one from 8765)")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="listen here (default: 127.0.0.1)")
    parser.add_argument(
        "--token", action="store_true", help="ask for a token here, too, where others share the machine"
    )
    parser.add_argument("--no-browser", action="store_true", help="open no browser")
    parser.add_argument(
        "--renderer", action="append", default=[], metavar="FILE", help="a module that draws steps of an environment"
    )


def run(options: argparse.Namespace) -> int:
    import sys

    from holdfast.execute.scheduler import open_store
    from holdfast.web import find, server
    from holdfast.web.rollouts import Rollouts, with_renderers

    server.check_installed()
    shown = with_renderers(find.find(options.name, open_store(options.root)), options.renderer)
    address = server.Address(options.host, options.port, options.token)
    rules, streams = address.rules(), server.Streams()
    page = Rollouts(shown, streams)
    with server.listen(address) as listening:
        app = server.build(page.routes(), rules, {**server.static_files(), **page.files()})
        where = server.url(listening, address, rules)
        print(where, flush=True)
        print(f"{shown.source.name}; Ctrl-C ends it", file=sys.stderr)
        if not options.no_browser:
            server.open_browser(where)
        page.live.start()
        try:
            server.serve(app, listening, streams)
        finally:
            page.live.stop()
    return 0
