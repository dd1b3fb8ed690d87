"""An answer is read right however its bytes are cut, and what is none never passes for one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.engines.http_answer import Answer, NotHttp, Reader, TooLarge

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=1\r\nllo\r\n0\r\nX-More: 1\r\n\r\n"
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH
WHOLE = [LENGTH, CHUNKS, CONTINUED]


def read(*pieces: bytes, largest: int = 1000) -> tuple[Answer | None, Reader]:
    reader = Reader(largest)
    answer = None
    for piece in pieces:
        assert answer is None, "it was whole before its end"
        answer = reader.feed(piece)
    return answer, reader


def head(*lines: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    return "\r\n".join([f"HTTP/{version} {status}", *lines, "", ""]).encode()


@given(st.sampled_from(WHOLE), st.lists(st.integers(1, 120), unique=True))
def test_an_answer_is_the_same_however_it_is_cut(whole: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    pieces = [whole[start:end] for start, end in itertools.pairwise(places)]
    answer, reader = read(*pieces)
    assert answer is not None and (answer.status, answer.content) == (200, b"hello") and reader.may_go_on


@given(st.sampled_from(WHOLE), st.integers(0, 200))
def test_a_part_of_an_answer_is_none(whole: bytes, cut: int) -> None:
    answer, reader = read(whole[: min(cut, len(whole) - 1)])
    assert answer is None and reader.end() is None


@given(st.binary(max_size=200))
def test_other_bytes_are_no_answer(noise: bytes) -> None:
    reader = Reader(100)
    try:
        answer = reader.feed(noise) or reader.end()
    except (NotHttp, TooLarge):
        return
    assert answer is None or noise.startswith(b"HTTP/1.")


def test_a_body_without_a_length_ends_with_the_line() -> None:
    answer, reader = read(head() + b"all ", b"of it")
    assert answer is None
    answer = reader.end()
    assert answer is not None and answer.content == b"all of it" and not reader.may_go_on


@pytest.mark.parametrize(
    ("answer", "goes_on"),
    [
        (head("Content-Length: 0"), True),
        (head("Content-Length: 0", "Connection: close"), False),
        (head("Content-Length: 0", version="1.0"), False),
        (head("Content-Length: 0", "Connection: keep-alive", version="1.0"), True),
        (head("Content-Length: 0") + b"more than was asked for", False),
        (head(status="204 No Content"), True),
        (head("Content-Length: 9", status="304 Not Modified"), True),
    ],
)
def test_a_line_is_used_again_only_where_the_server_agrees(answer: bytes, goes_on: bool) -> None:
    found, reader = read(answer)
    assert found is not None and found.content == b"" and reader.may_go_on == goes_on


@pytest.mark.parametrize(
    "wrong",
    [
        b"<html>",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        head("no header"),
        head(" Folded: 1"),
        head("Content-Length: -1"),
        head("Content-Length: 1, 1"),
        head("Content-Length: 1", "Content-Length: 2"),
        head("Transfer-Encoding: chunked") + b"zz\r\n",
        head("Transfer-Encoding: chunked") + b"-1\r\n",
        head("Transfer-Encoding: chunked") + b"1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    ],
)
def test_what_cannot_be_read_for_certain_is_refused(wrong: bytes) -> None:
    with pytest.raises(NotHttp):
        read(wrong)


@pytest.mark.parametrize(
    "large",
    [
        head("Content-Length: 1001"),
        head("Transfer-Encoding: chunked") + b"3e9\r\n",
        head("Transfer-Encoding: chunked") + b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\n",
        head() + b"x" * 1001,
    ],
)
def test_an_answer_that_is_too_large_is_left_at_its_announcement(large: bytes) -> None:
    with pytest.raises(TooLarge):
        read(large)


def test_names_of_headers_are_read_in_any_case() -> None:
    answer, _ = read(head("RETRY-AFTER:  2.5 ", "content-length: 0", status="429 Too Many"))
    assert answer is not None and answer.status == 429 and answer.headers["retry-after"] == "2.5"
