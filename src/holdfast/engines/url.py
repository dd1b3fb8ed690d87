"""An engine that is already there: any OpenAI-compatible base URL.

Nobody started it for us, so what it serves is the word of whoever gave the URL: `asserted`. It is `proven` only where
the server says which directory it serves (vLLM: `root` in `/v1/models`), runs on this host, and that directory has the
wanted contents. A server elsewhere may have another directory of the same name.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple
from urllib.parse import urlsplit

from holdfast.core import artifact
from holdfast.core.errors import ConfigError, UserError
from holdfast.engines import EVERY_FIELD, Capabilities, Engine
from holdfast.engines.serving import Serving

if TYPE_CHECKING:
    from holdfast.engines.wire import Wire

Standing = Literal["proven", "asserted"]
LISTING = 30.0
"""Seconds for the list of models."""


class Served(NamedTuple):
    """A model that a server has: its name in requests, and where it says the model comes from."""

    name: str
    root: str


class Url(Engine):
    """Takes `url`, `api_key_variable` and `served_name`; starts nothing."""

    name = "url"
    capabilities = Capabilities(EVERY_FIELD)
    options: ClassVar[frozenset[str]] = frozenset({"url", "api_key_variable", "served_name"})

    def __init__(self, serving: Serving) -> None:
        """
        Raises:
            ConfigError: no URL, or an option that only engines have that we start.
        """
        super().__init__(serving)
        if not serving.url or urlsplit(serving.url).scheme not in ("http", "https"):
            raise ConfigError(f"engine url needs a base URL, given {serving.url!r}", "add `url: http://HOST:PORT/v1`")

    def service(self, model: Path, tokens: int) -> None:
        """None: it is already there."""

    def served_name(self, model: Path) -> str | None:
        return self.serving.served_name


async def find_served(wire: Wire, wanted: str | None = None) -> Served:
    """The model to ask for: the one named `wanted`, or the only one that is served. A server without a list is taken
    at its word.

    Raises:
        UserError: the server lists no such model, several without a choice, or nothing that can be read.
    """
    import json

    from holdfast.engines.wire import NotHttp, TooLarge

    where = f"{wire.base}/v1/models"
    try:
        answer = await wire.get("/v1/models", LISTING)
    except (OSError, NotHttp, TooLarge) as error:
        raise UserError(f"no engine answers at {where}: {error!r}", "check the URL, and that it is up") from error
    status, text = answer.status, answer.content.decode("utf-8", "replace")
    if wanted is not None and status in (404, 405, 501):
        return Served(wanted, "")
    if status != 200:
        raise UserError(f"{where} answered {status}, expected 200", "check the URL and the key")
    try:
        models = [Served(str(each["id"]), str(each.get("root") or "")) for each in json.loads(text)["data"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where} is no list of models: {text[:200]}", "give an OpenAI-compatible base URL") from error
    found = [each for each in models if wanted in (None, each.name)]
    if len(found) != 1:
        names = ", ".join(each.name for each in models[:10]) or "none"
        asked = f"`{wanted}`" if wanted else "one model"
        raise UserError(f"{where} lists {names}, wanted {asked}", "name one of them with `served_name`")
    return found[0]


def judge(base: str, served: Served, model: Path) -> Standing:
    """Whether the server at `base` provably serves what is in the directory `model`."""
    root = Path(served.root)
    if not (served.root and root.is_absolute() and root.is_dir() and _is_here(base)):
        return "asserted"
    return "proven" if root.samefile(model) or _contents(root) == _contents(model) else "asserted"


def _contents(directory: Path) -> dict[str, str]:
    """Digests of the files that are not hidden, by relative path."""
    relative = {path.relative_to(directory): path for path in directory.rglob("*") if path.is_file()}
    shown = {str(name): path for name, path in relative.items() if not any(p.startswith(".") for p in name.parts)}
    return {name: artifact.digest_of(path) for name, path in sorted(shown.items())}


def _is_here(base: str) -> bool:
    host = urlsplit(base).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
