"""What lies on this machine must not be readable by a page on the web, nor by whoever else is on the network."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tests.web import rows
from tests.web.viewer import Viewer, viewing

from holdfast.web.guard import LOOPBACK, Rules, names_of
from holdfast.web.server import Address

OURS = Rules(LOOPBACK)
GUARDED = Rules(names_of("0.0.0.0"), "s3cret")


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:9000", "LOCALHOST", "[::1]:8765", "localhost"])
def test_whoever_is_here_may_ask(host: str) -> None:
    assert OURS.refuse({"host": host}) is None
    assert OURS.refuse({"host": host, "origin": f"http://{host}"}) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "localhost:80:80",
        "evil@localhost",
        "localhost@evil",
        "localhost/evil",
        "localhost#.evil",
        "192.168.1.7",
        "[::1",
        "localhost:x",
        "2130706433",
    ],
)  # fmt: skip
def test_a_foreign_name_that_leads_here_is_refused(host: str) -> None:
    refused = OURS.refuse({"host": host})
    assert refused and refused[0] == 421


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://localhost:8765", "http://localhost:8766", "http://localhost", ""]
)
def test_another_page_is_refused(origin: str) -> None:
    refused = OURS.refuse({"host": "localhost:8765", "origin": origin})
    assert refused and refused[0] == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_another_page_embeds_is_refused(site: str) -> None:
    refused = OURS.refuse({"host": "localhost:8765", "sec-fetch-site": site})
    assert refused and refused[0] == 403


@pytest.mark.parametrize(
    ("headers", "query", "passes"),
    [
        ({}, "", False),
        ({}, "token=s3cret", True),
        ({}, "token=s3cre", False),
        ({}, "token=", False),
        ({"cookie": "a=b; holdfast-token=s3cret"}, "", True),
        ({"cookie": "holdfast-token=other"}, "", False),
        ({"authorization": "Bearer s3cret"}, "", True),
        ({"authorization": "Basic s3cret"}, "", False),
        ({"cookie": "holdfast-token=s3cr\u00e9t"}, "", False),
    ],
)
def test_off_the_loopback_address_a_token_is_asked_for(headers: dict[str, str], query: str, passes: bool) -> None:
    refused = GUARDED.refuse({"host": "10.0.0.7:8765", **headers}, query)
    assert (refused is None) == passes and (passes or (refused and refused[0] == 401))


def test_with_a_token_a_foreign_name_is_still_refused() -> None:
    refused = GUARDED.refuse({"host": "evil.example"}, "token=s3cret")
    assert refused and refused[0] == 421
    assert GUARDED.refuse({"host": f"{socket.gethostname()}:8765"}, "token=s3cret") is None


def test_only_the_loopback_address_does_without_a_token() -> None:
    assert not Address("127.0.0.1").rules().token and not Address("::1").rules().token
    tokens = {Address(host).rules().token for host in ("0.0.0.0", "::", "192.168.1.7", "node7", "10.0.0.1")}
    assert len(tokens) == 5 and min(map(len, tokens)) >= 32
    assert Address("127.0.0.1", has_token=True).rules().token
    assert "s3cret" not in repr(GUARDED)


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> object:
    place = tmp_path_factory.mktemp("guard")
    path = rows.write(place / "rollouts.jsonl", [rows.game(0, 0)])
    (place / "secret.txt").write_text("not for you")
    with viewing(path, root=place / "root") as found:
        yield found


@pytest.mark.parametrize("path", ["/", "/api/summary", "/api/row/0/raw", "/js/main.js", "/api/events", "/nothing"])
def test_every_path_is_guarded_and_says_so_in_its_headers(viewer: Viewer, path: str) -> None:
    for wrong in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
        refused = viewer.send(path, **wrong)
        assert refused.status in (403, 421) and b"puzzle" not in refused.body
        assert refused.headers["content-security-policy"].startswith("default-src 'self';")


@pytest.mark.parametrize("path", ["/", "/api/summary", "/js/main.js", "/nothing", "/api/nothing"])
def test_what_is_answered_runs_nothing_from_elsewhere(viewer: Viewer, path: str) -> None:
    headers = viewer.send(path).headers
    policy = headers["content-security-policy"]
    assert "unsafe" not in policy and "*" not in policy and "http" not in policy and "data:" not in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers and "server" not in headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_changed(viewer: Viewer, method: str) -> None:
    assert viewer.send("/api/summary", method).status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/%2e%2e/secret.txt",
        "//etc/passwd",
        "/js/../../guard.py",
        "/js/%2e%2e/%2e%2e/guard.py",
        "/js/..\\..\\guard.py",
        "/\x00",
        "/%00",
        "/js/main.js%00.html",
        "/api/row/../../secret.txt",
        "/api/row/0/../../../x",
        "/renderers/own-0.js",
        "/static/index.html",
        "/js",
        "/js/",
        "/api/row/-1",
        "/api/row/99999999999999999999",
    ],
)  # fmt: skip
def test_no_path_leads_to_another_file(viewer: Viewer, path: str) -> None:
    with socket.create_connection(("127.0.0.1", viewer.port), timeout=10) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    status = int(answer.split(b" ", 2)[1])
    assert status in (400, 404) and b"not for you" not in answer and b"root:" not in answer and b"import" not in answer


def test_a_request_with_two_hosts_is_refused(viewer: Viewer) -> None:
    with socket.create_connection(("127.0.0.1", viewer.port), timeout=10) as raw:
        raw.sendall(b"GET /api/summary HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n")
        assert raw.recv(65536).split(b" ", 2)[1] == b"400"


def test_the_token_moves_from_the_url_into_a_cookie(tmp_path: Path) -> None:
    path = rows.write(tmp_path / "rollouts.jsonl", [rows.game(0, 0)])
    with viewing(path, "--token", root=tmp_path / "root") as viewer:
        assert len(viewer.token) >= 32 and viewer.token not in viewer.said.read_text()
        for where in ("/", "/api/summary", "/js/main.js", "/api/row/0/raw"):
            assert viewer.send(where).status == 401
        given = viewer.send(f"/?token={viewer.token}")
        assert given.status == 303 and given.headers["location"] == "/"
        cookie = given.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
        assert viewer.send("/api/summary", Cookie=cookie.partition(";")[0]).status == 200
        assert viewer.send(f"//evil.example/?token={viewer.token}").headers["location"].startswith("/evil")


def test_other_addresses_are_listened_at_only_when_asked_for(tmp_path: Path) -> None:
    path = rows.write(tmp_path / "rollouts.jsonl", [rows.game(0, 0)])
    with viewing(path, "--host", "0.0.0.0", root=tmp_path / "root") as viewer:
        assert viewer.token
        assert viewer.send("/api/summary", Host=f"10.1.2.3:{viewer.port}").status == 401
        bearer = f"Bearer {viewer.token}"
        assert viewer.send("/api/summary", Host=f"10.1.2.3:{viewer.port}", Authorization=bearer).status == 200
        assert viewer.send("/api/summary", Host="evil.example", Authorization=bearer).status == 421
