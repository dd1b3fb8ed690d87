"""`python -m holdfast.trackers follow TRACKER KEY` shows a stage while it runs, `sync TRACKER KEY` what it left.

Both are started by the supervisor, in processes of their own: they may fail, hang and be killed. `follow` goes on until
its input says the exit code of the work, or ends because the supervisor is gone.
"""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

from holdfast.core.errors import ConfigError, Held, UserError
from holdfast.core.store import Store
from holdfast.trackers.feed import Feed
from holdfast.trackers.show import ending_code, subject_of

INTERVAL = 2.0
FAILED, USELESS, HELD = 1, 2, 3


def follow(feed: Feed) -> None:
    """Hand over what the stage logs until somebody says that it has ended."""
    word = None
    while word is None:
        word = _word(INTERVAL)
        feed.pump()
    feed.finish(int(word) if word.strip().lstrip(b"-").isdigit() else FAILED)


def _word(seconds: float) -> bytes | None:
    """What our input says; empty once nobody holds its other end any more, None if nothing came."""
    ready, _, _ = select.select([0], [], [], seconds)
    return os.read(0, 64) if ready else None


def main(arguments: list[str]) -> int:
    verb, name, key = arguments
    store = Store(Path(os.environ["HOLDFAST_ROOT"]))
    feed = None
    try:
        feed = Feed(name, subject_of(store, store.read(key), following=verb == "follow"), os.environ)
        if verb == "follow":
            follow(feed)
        else:
            feed.finish(ending_code(store, key))
    except (UserError, Held) as error:
        sys.stderr.write(f"error: {error}\n")
        return USELESS if isinstance(error, ConfigError) else HELD if isinstance(error, Held) else FAILED
    finally:
        if feed is not None:
            feed.release()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
