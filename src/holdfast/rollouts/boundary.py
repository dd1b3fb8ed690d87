"""Where the code of an environment is called: with a deadline, and whatever it raises is an error of the environment.

Somebody else's code may raise anything, block, or hang. What blocks runs in a daemon thread, so that it stops neither
the loop nor the end of the process; a thread that hangs cannot be ended, so there are only so many.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast.core.errors import HoldfastError
from holdfast.engines.completions import EngineError
from holdfast.environments.episodes import Episode, EpisodeError

THREADS = 32
"""At most, of all episodes that block, together."""

_places: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}


async def call(episode: Episode, what: str, seconds: float, *arguments: Any) -> Any:
    """What the method `what` of an episode returns.

    Raises:
        EpisodeError: it raised something, or has not returned after so many seconds.
        HoldfastError: what it raised on purpose.
    """
    method: Callable[..., Any] = getattr(episode, what)
    try:
        found = _in_thread(method, arguments) if episode.is_blocking else method(*arguments)
        if not inspect.isawaitable(found):
            return found
        async with asyncio.timeout(seconds):
            found = await found
            return await found if inspect.isawaitable(found) else found
    except TimeoutError:
        raise EpisodeError("env_timeout", f"`{what}` took more than {seconds:g} s") from None
    except (HoldfastError, EngineError):
        raise
    except (Exception, SystemExit) as error:  # code of others may raise anything: it costs one rollout
        raise EpisodeError("env_error", f"`{what}`: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """Type, words, file and line: `ZeroDivisionError: division by zero (guess.py:12)`."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{where}"


async def _in_thread(method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    loop = asyncio.get_running_loop()
    if loop not in _places:
        _places.clear()  # those of loops that have ended
        _places[loop] = asyncio.Semaphore(THREADS)
    places = _places[loop]
    await places.acquire()
    done: asyncio.Future[Any] = loop.create_future()

    def settle(error: BaseException | None, value: Any) -> None:
        places.release()
        if done.done():
            return
        if error is None:
            done.set_result(value)
        else:
            # These two a future cannot hold, or would end the loop with.
            odd = isinstance(error, StopIteration | SystemExit)
            done.set_exception(RuntimeError(describe(error)) if odd else error)

    def run() -> None:
        try:
            outcome = (None, method(*arguments))
        except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
            outcome = (error, None)  # type: ignore[assignment]
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="episode", daemon=True).start()
    return await done
