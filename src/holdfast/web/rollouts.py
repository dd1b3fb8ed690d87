"""The questions that the page of rollouts asks. Lists and figures come from the columns; a row is read by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from holdfast.core.errors import UserError
from holdfast.rollouts import columns_query
from holdfast.rollouts.columns_follow import Source
from holdfast.rollouts.columns_query import Filter, Measure, Orders, Sort
from holdfast.web import transcript
from holdfast.web.live import Live
from holdfast.web.server import Refused, Streams, answer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

MOST_ROWS = 500
LONGEST_ROW = 2**28
"""Bytes of a row that is decoded; of a longer one the page says so."""
SHIPPED = ("tetris",)
"""Renderers of the package, by the name of their module."""


class RowsQuery(Filter):
    """A page of the list."""

    offset: int = Field(0, ge=0, le=2**40)
    limit: int = Field(100, ge=1, le=MOST_ROWS)
    sort: Sort = "file"
    dir: Literal["asc", "desc"] = "asc"


class HistogramQuery(Filter):
    """A histogram of the rows that a filter finds."""

    measure: Measure = "reward"
    bins: int = Field(40, ge=1, le=200)


class RowQuery(BaseModel, extra="forbid"):
    """A part of a row's messages."""

    start: int = Field(0, ge=0)


class TextQuery(BaseModel, extra="forbid"):
    """The whole text at a place in a row."""

    at: str = Field(max_length=2000)


class NoQuery(BaseModel, extra="forbid"):
    """Nothing can be asked for here."""


Query = TypeVar("Query", bound=BaseModel)


@dataclass(frozen=True)
class Shown:
    """What a page is opened on. `environment` names the renderer; `renderers` are files of the user's own, which run
    in the page as its own scripts do.
    """

    source: Source
    environment: str = ""
    renderers: Sequence[Path] = ()


class Rollouts:
    """The page of one source: its routes, and the thread that follows its files."""

    def __init__(self, shown: Shown, streams: Streams) -> None:
        self.shown = shown
        self.streams = streams
        self.live = Live(shown.source, streams.send)
        self._orders = Orders()

    def routes(self) -> list[BaseRoute]:
        """What is asked, and who answers."""
        from starlette.routing import Route

        paths = {
            "/api/summary": self.summary,
            "/api/rows": self.rows,
            "/api/row/{row:int}": self.row,
            "/api/row/{row:int}/text": self.text,
            "/api/row/{row:int}/raw": self.raw,
            "/api/prompt/{prompt:int}": self.prompt,
            "/api/histogram": self.histogram,
            "/api/events": self.events,
            "/api/{path:path}": self.nothing,
        }
        return [Route(path, answer(handler), methods=["GET"]) for path, handler in paths.items()]

    def files(self) -> dict[str, bytes]:
        """The user's own renderers, as files of the page."""
        return {f"/renderers/own-{number}.js": path.read_bytes() for number, path in enumerate(self.shown.renderers)}

    async def summary(self, request: Request) -> dict[str, Any]:
        """What stands at the head of the page."""
        _ask(NoQuery, request)
        totals = await asyncio.to_thread(columns_query.totals, self.live.follower.columns)
        own = [f"own-{number}" for number in range(len(self.shown.renderers))]
        return {
            "name": self.shown.source.name,
            "environment": self.shown.environment,
            "renderers": [f"/renderers/{name}.js" for name in (*own, *SHIPPED)],
            "state": self.live.state(),
            "totals": {**totals._asdict(), "mean": totals.mean},
        }

    async def rows(self, request: Request) -> dict[str, Any]:
        """A page of the list."""
        return await asyncio.to_thread(self._rows, _ask(RowsQuery, request))

    async def row(self, request: Request) -> dict[str, Any]:
        """One row, as the page shows it."""
        query = _ask(RowQuery, request)
        return await asyncio.to_thread(self._row, request.path_params["row"], query.start)

    async def text(self, request: Request) -> dict[str, str]:
        """A text that was too long to be sent at once."""
        at = _ask(TextQuery, request).at
        return {"text": await asyncio.to_thread(self._text, request.path_params["row"], at)}

    async def raw(self, request: Request) -> Response:
        """The line as it lies in the file, to be saved."""
        from starlette.responses import Response

        _ask(NoQuery, request)
        number = request.path_params["row"]
        line = await asyncio.to_thread(self._line, number)
        headers = {"content-disposition": f'attachment; filename="row-{number}.json"', "cache-control": "no-store"}
        return Response(line, 200, headers, "application/json")

    async def prompt(self, request: Request) -> dict[str, Any]:
        """The rows of one prompt, in the order of their repeats."""
        _ask(NoQuery, request)
        return await asyncio.to_thread(self._prompt, request.path_params["prompt"])

    async def histogram(self, request: Request) -> dict[str, Any]:
        """How a measure is spread over the rows that a filter finds."""
        query = _ask(HistogramQuery, request)
        columns = self.live.follower.columns
        bars = await asyncio.to_thread(columns_query.histogram, columns, _filter(query), query.measure, query.bins)
        return {"measure": query.measure, "bars": [bar._asdict() for bar in bars], "version": self.live.version}

    async def events(self, request: Request) -> Response:
        """Says whenever there is more to see."""
        _ask(NoQuery, request)
        return self.streams.open()

    async def nothing(self, request: Request) -> None:
        """What nobody answers."""
        raise Refused(404, f"nobody answers {request.url.path[:200]}")

    def _rows(self, query: RowsQuery) -> dict[str, Any]:
        columns, version = self.live.follower.columns, self.live.version
        found = self._orders.find(columns, version, _filter(query), query.sort, descending=query.dir == "desc")
        page = found[query.offset : query.offset + query.limit]
        shown = columns_query.describe(columns, page)
        return {"version": version, "total": len(found), "offset": query.offset, "rows": shown}

    def _row(self, number: int, start: int) -> dict[str, Any]:
        shown = transcript.show(self._decoded(number), start)
        return {**self._described(number), **shown}

    def _prompt(self, number: int) -> dict[str, Any]:
        columns = self.live.follower.columns
        if number >= len(columns.prompts):
            raise Refused(404, f"there is no prompt {number}")
        found = columns_query.order(columns, Filter(prompt=number), "repeat")
        return {
            "id": columns.prompts.text(number),
            "total": len(found),
            "rows": columns_query.describe(columns, found[:MOST_ROWS]),
        }

    def _text(self, number: int, at: str) -> str:
        try:
            return transcript.look_up(self._decoded(number), at)
        except KeyError:
            raise Refused(404, f"row {number} has nothing at {at[:200]!r}") from None

    def _described(self, number: int) -> dict[str, Any]:
        import numpy as np

        return columns_query.describe(self.live.follower.columns, np.array([number]))[0]

    def _decoded(self, number: int) -> dict[str, Any]:
        content = json.loads(self._line(number))
        assert isinstance(content, dict)
        return content

    def _line(self, number: int) -> bytes:
        try:
            place = self.live.follower.columns.place(number)
        except IndexError:
            raise Refused(404, f"there is no row {number}", "reload the page") from None
        if place.size > LONGEST_ROW:
            raise Refused(413, f"row {number} has {place.size:,} bytes, more than a page can show")
        return self.live.follower.read(number)


def with_renderers(shown: Shown, names: Sequence[str]) -> Shown:
    """The same with renderers of the user's own.

    Raises:
        UserError: there is no such file.
    """
    paths = [Path(name).expanduser() for name in names]
    for path in paths:
        if path.suffix != ".js" or not path.is_file():
            raise UserError(f"there is no renderer at {path}", "name an ES module that ends in .js")
    return replace(shown, renderers=tuple(paths))


def _filter(query: Filter) -> Filter:
    """The filter alone, so that pages of one list are of one list."""
    return Filter(**{name: getattr(query, name) for name in Filter.model_fields})


def _ask(kind: type[Query], request: Request) -> Query:
    """The parameters of a question.

    Raises:
        Refused: they are none of its, or say something impossible.
    """
    given = dict(request.query_params)
    try:
        return kind.model_validate({name: value for name, value in given.items() if value != ""})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))[:100]
        raise Refused(400, f"{name}: {first['msg']}", f"known: {', '.join(kind.model_fields)}") from None
