"""Reads one HTTP/1.1 answer as its bytes come (RFC 9112): a body of known length, in chunks, or to the end of the line.

It knows no socket, so that every cut and every oddity can be tried on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

LONGEST_HEAD = 64 * 2**10
"""Bytes of a status line with headers, of a chunk's size, or of a trailer."""
TOLD = ("retry-after", "location")
"""Headers that an answer comes with: thousands of answers may wait to be read."""
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: |$)")
_START = b"HTTP/1."
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?$", re.DOTALL)


class NotHttp(ValueError):
    """The bytes are no answer in HTTP/1.1."""


class TooLarge(ValueError):
    """The body is larger than was allowed."""


class Answer(NamedTuple):
    """`headers` are those of `TOLD`, of one that is repeated the last."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Reader:
    """Feed it until it gives the answer. `may_go_on`: whether the line can carry another request then."""

    __slots__ = ("_headers", "_is_chunked", "_largest", "_left", "_parts", "_rest", "_size", "_status", "may_go_on")

    def __init__(self, largest: int) -> None:
        self.may_go_on = False
        self._largest = largest
        self._rest = b""
        self._status = 0
        self._headers: dict[str, str] = {}
        self._is_chunked = False
        self._left: int | None = None
        """Bytes that are missing of the body, or of the chunk; None: of the body until the end, of chunks a size."""
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Answer | None:
        """The answer, once it is whole.

        Raises:
            NotHttp: it is none.
            TooLarge: its body is too large.
        """
        if not self._status:
            self._rest += data
            if not self._read_head():
                return None
            data, self._rest = self._rest, b""
        if self._is_chunked:
            return self._read_chunks(data)
        return self._read_plain(data)

    def end(self) -> Answer | None:
        """The answer, where the end of the line is its end; None where it is cut off.

        Raises:
            NotHttp: what came is no beginning of an answer.
        """
        if not self._status and self._rest:
            self._check_start()
        if not self._status or self._is_chunked or self._left is not None:
            return None
        return self._answer()

    def _read_head(self) -> bool:
        """Take the head from `_rest`; whether it is there."""
        while True:
            self._check_start()
            head, end, rest = self._rest.partition(b"\r\n\r\n")
            if not end:
                if len(head) > LONGEST_HEAD:
                    raise NotHttp(f"a head of more than {LONGEST_HEAD} bytes")
                return False
            self._rest = rest
            status, headers, minor = _parse(head)
            if status == 101:
                raise NotHttp("101: the server changes the protocol")
            if status >= 200:
                self._status, self._headers = status, headers
                self._frame(minor)
                return True

    def _check_start(self) -> None:
        if not self._rest.startswith(_START[: len(self._rest)]):
            raise NotHttp(f"it begins with {self._rest[:40]!r}")

    def _frame(self, minor: int) -> None:
        """How long the body is (RFC 9112, section 6.3)."""
        headers = self._headers
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        connection = headers.get("connection", "").lower()
        self.may_go_on = "close" not in connection and (minor == 1 or "keep-alive" in connection)
        if self._status in (204, 304):
            self._left = 0
        elif coding is not None:
            self._is_chunked = coding.lower().rpartition(",")[2].strip() == "chunked"
            self.may_go_on = self.may_go_on and self._is_chunked and length is None
        elif length is not None:
            if not (length.isascii() and length.isdecimal()):
                raise NotHttp(f"Content-Length: {length[:40]}")
            self._left = int(length)
            self._check_size(self._left)
        else:
            self.may_go_on = False

    def _read_plain(self, data: bytes) -> Answer | None:
        if self._left is None:
            self._add(data)
            return None
        taken = data[: self._left]
        self._add(taken)
        self._left -= len(taken)
        if self._left:
            return None
        self.may_go_on = self.may_go_on and len(taken) == len(data)
        return self._answer()

    def _read_chunks(self, data: bytes) -> Answer | None:
        data = self._rest + data if self._rest else data
        self._rest = b""
        while data:
            if self._left:
                taken = data[: self._left]
                self._add(taken)
                self._left -= len(taken)
                data = data[len(taken) :]
                continue
            line, end, rest = data.partition(b"\r\n")
            if not end:
                if len(line) > LONGEST_HEAD:
                    raise NotHttp("a chunk without a size")
                self._rest = line
                return None
            data = rest
            if self._left == 0:
                self._after_chunk(line)
            elif self._size < 0:
                if not line:
                    return self._last(data)
            else:
                self._begin_chunk(line)
        return None

    def _after_chunk(self, line: bytes) -> None:
        if line:
            raise NotHttp(f"a chunk is longer than it says: {line[:40]!r}")
        self._left = None

    def _begin_chunk(self, line: bytes) -> None:
        found = _CHUNK.match(line)
        if not found:
            raise NotHttp(f"no size of a chunk: {line[:40]!r}")
        length = int(found[1], 16)
        self._check_size(self._size + length)
        self._left = length or None
        if not length:
            self._size = -1  # trailers follow, up to an empty line

    def _last(self, data: bytes) -> Answer:
        self.may_go_on = self.may_go_on and not data
        return self._answer()

    def _add(self, data: bytes) -> None:
        self._size += len(data)
        self._check_size(self._size)
        if data:
            self._parts.append(data)

    def _check_size(self, size: int) -> None:
        if size > self._largest:
            raise TooLarge(f"an answer of more than {self._largest} bytes")

    def _answer(self) -> Answer:
        headers = {name: self._headers[name] for name in TOLD if name in self._headers}
        return Answer(self._status, headers, self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))


def _parse(head: bytes) -> tuple[int, dict[str, str], int]:
    """Status, headers, and the minor version."""
    first, *lines = head.split(b"\r\n")
    found = _STATUS.match(first)
    if not found:
        raise NotHttp(f"no status line: {first[:40]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise NotHttp(f"no header: {line[:40]!r}")
        key, text = name.lower().decode("latin-1"), value.strip(b" \t").decode("latin-1")
        if key == "content-length" and headers.get(key, text) != text:
            raise NotHttp(f"two lengths of one body: {headers[key][:40]} and {text[:40]}")
        if key == "transfer-encoding" and key in headers:
            text = f"{headers[key]}, {text}"
        headers[key] = text
    return int(found[2]), headers, int(found[1])
