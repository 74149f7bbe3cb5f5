"""The door: keys, rates, sizes and times of requests, and the headers of every answer."""

from __future__ import annotations

import json
import logging
import socket
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from running_server import GRACE, limits, running, until
from unistep.backends.onnx_files import quiet
from unistep.serving.api.door import Keys, client_of, key_of
from unistep.serving.api.limiting import Buckets, Place, Window
from unistep.serving.hosts import hosts_of
from unistep.serving.settings import Settings

KEY, OTHER = "first-key-of-the-tests", "other-key-of-the-tests"
IMAGES = "/v1/images/generations"


def raw(server, request: bytes, rest: bytes = b"") -> bytes:
    """What the server answers to bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=GRACE) as connection:
        connection.sendall(request)
        found = b""
        if rest:
            connection.sendall(rest)
        try:
            while part := connection.recv(65536):
                found += part
        except ConnectionResetError:
            pass
        return found


def scope(kind: str = "http", headers: dict[str, str] | None = None, query: str = "") -> dict[str, Any]:
    sent = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    return {"type": kind, "headers": sent, "query_string": query.encode(), "client": ("10.0.0.1", 5)}


@pytest.fixture(scope="module")
def guarded(models):
    settings = Settings(
        models=models[:1], threads=1, backend="eager", keys=(KEY, OTHER), origins=("https://example.org",),
        limits=limits(rate=6.0, body=100_000, body_seconds=0.5),
    )  # fmt: skip
    with running(settings) as server:
        yield server


def test_keys_are_compared_whole():
    keys = Keys((KEY, OTHER))
    assert keys.allows(KEY)
    assert keys.allows(OTHER)
    for wrong in (None, "", KEY[:-1], KEY + "x", KEY.upper(), " " + KEY, "é", "\udcff"):
        assert not keys.allows(wrong)
    assert Keys(()).allows(None)


def test_where_keys_are_looked_for():
    assert key_of(scope(headers={"authorization": f"Bearer {KEY}"})) == KEY
    assert key_of(scope(headers={"authorization": f"bearer  {KEY} "})) == KEY
    assert key_of(scope(headers={"authorization": f"Basic {KEY}"})) is None
    assert key_of(scope(query=f"key={KEY}")) is None  # addresses are logged by those on the way
    assert key_of(scope("websocket", query=f"key={KEY}")) == KEY


def test_limits_are_those_of_a_key_or_of_an_address():
    keyed = scope(headers={"authorization": f"Bearer {KEY}"})
    assert client_of(keyed, True) != client_of(scope(), True)
    assert KEY not in client_of(keyed, True)
    # A server without keys: whoever makes some up is no new client.
    assert client_of(keyed, False) == client_of(scope(), False) == "address:10.0.0.1"


def test_a_network_of_ipv6_is_one_client():
    def of(address):
        return client_of({**scope(), "client": (address, 5)}, False)

    assert of("2001:db8:1:2::1") == of("2001:db8:1:2:ffff::9") != of("2001:db8:1:3::1")
    assert of("::ffff:10.0.0.1") == of("10.0.0.1") != of("::ffff:10.0.0.2")
    assert of("fe80::1%eth0") == of("fe80::2%eth0")


def test_a_bucket_fills_with_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("unistep.serving.api.limiting.time.monotonic", lambda: now[0])
    buckets = Buckets(6.0)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") == pytest.approx(10.0)
    assert buckets.take("b") == 0
    now[0] = 10.0
    assert buckets.take("a") == 0
    assert buckets.take("a") == pytest.approx(10.0)
    now[0] = 1000.0
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") > 0
    assert all(Buckets(0.0).take("a") == 0 for _ in range(100))


def test_nobody_comes_in_without_a_key(guarded):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}):
        for route in ("/v1/models", "/openapi.json", "/v1/anything"):
            answer = guarded.client.get(route, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["type"] == "authentication_error"
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert guarded.client.post(IMAGES, json={}, headers=headers).status_code == 401
    with pytest.raises(InvalidStatus) as refused, guarded.live("video"):
        pass
    assert refused.value.response.status_code == 403


def test_how_a_server_is_needs_no_key(guarded):
    assert guarded.client.get("/health").json() == {"status": "ok"}
    assert guarded.client.get("/readyz").json()["status"] == "ready"
    assert "unistep_requests_total" in guarded.client.get("/metrics").text
    assert guarded.client.get("/", follow_redirects=False).headers["location"] == "/studio/"


def test_a_client_that_asks_too_often_waits(guarded):
    headers = {"Authorization": f"Bearer {KEY}"}
    statuses = [guarded.client.get("/v1/models", headers=headers).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    answer = guarded.client.get("/v1/models", headers=headers)
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert guarded.client.get("/v1/models", headers={"Authorization": f"Bearer {OTHER}"}).status_code == 200
    assert guarded.client.get("/health").status_code == 200
    with guarded.live("video", f"?key={OTHER}"):
        pass  # it counts, and is let in


def test_pages_of_other_origins(guarded, server):
    preflight = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST",
                 "Access-Control-Request-Headers": "authorization,content-type"}  # fmt: skip
    answer = guarded.client.options(IMAGES, headers=preflight)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://example.org"
    answer = guarded.client.get("/health", headers={"Origin": "https://example.org"})
    assert answer.headers["access-control-allow-origin"] == "https://example.org"
    for one in (guarded, server):
        answer = one.client.options(IMAGES, headers={**preflight, "Origin": "https://example.com"})
        assert "access-control-allow-origin" not in answer.headers
        assert "access-control-allow-origin" not in one.client.get("/health", headers={"Origin": "null"}).headers


def test_headers_of_every_answer(server):
    ids = set()
    for answer in (
        server.client.get("/v1/models"),
        server.client.get("/nothing"),
        server.client.post(IMAGES, json={"n": 0}),
        server.client.post(IMAGES, json={"seed": 1}, headers={"Accept": "image/png"}),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
        assert "server" not in answer.headers
        ids.add(answer.headers["x-request-id"])
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("method", "route", "status"), [("GET", "/nothing", 404), ("DELETE", IMAGES, 405), ("PUT", "/v1/models", 405)]
)
def test_what_is_not_there_is_said_in_the_same_shape(server, method, route, status):
    answer = server.client.request(method, route)
    assert answer.status_code == status
    assert answer.headers.get("allow") == {404: None, 405: "POST" if method == "DELETE" else "GET"}[status]
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_path_says_all_its_methods(server):
    assert server.client.put("/v1/videos/x").headers["allow"] == "DELETE, GET"
    assert server.client.put("/v1/videos/sync").headers["allow"] == "POST"


def test_the_description_names_what_is_answered(server):
    paths = server.client.get("/openapi.json").json()["paths"]
    assert list(paths["/metrics"]["get"]["responses"]["200"]["content"]) == ["text/plain"]
    answers = [answer for path in paths.values() for method in path.values() for answer in method["responses"]]
    assert "422" not in answers
    assert {"400", "401", "404", "413", "429", "503", "504"} <= set(answers)


HEAD = (
    b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\n"
)
HEAD %= OTHER.encode()


@pytest.mark.parametrize("length", [b"100001", b"9" * 30, b"9" * 5000])
def test_a_body_that_says_it_is_too_large_is_not_read(models, length):
    with running(Settings(models=models[:1], threads=1, backend="eager", limits=limits(body=100_000))) as server:
        answer = raw(server, HEAD + b"Connection: close\r\nContent-Length: " + length + b"\r\n\r\n{")
        assert answer.split()[1] in (b"413", b"400")  # h11 itself refuses numbers of more than 20 digits
        assert server.client.get("/health").status_code == 200


def test_a_body_that_turns_out_too_large_is_not_read(models):
    with running(Settings(models=models[:1], threads=1, backend="eager", limits=limits(body=100_000))) as server:
        parts = b"".join(b"4000\r\n" + b"x" * 0x4000 + b"\r\n" for _ in range(8))
        answer = raw(server, HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n", parts)
        assert answer.split()[1] == b"413"
        assert server.client.post(IMAGES, json={"seed": 1}).status_code == 200


def test_slow_clients_are_sent_away(guarded):
    answer = raw(guarded, HEAD + b"Connection: close\r\nContent-Length: 10\r\n\r\n{")
    assert answer.split()[1] in (b"408", b"429")
    assert raw(guarded, b"") == b""  # nothing was said
    assert raw(guarded, b"GET /health HTTP/1.1\r\nHo") == b""
    answer = raw(guarded, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /health HTT")
    assert answer.startswith(b"HTTP/1.1 200")  # and the second request is not waited for


def test_a_body_that_takes_too_long(models):
    with running(Settings(models=models[:1], threads=1, backend="eager", limits=limits(body_seconds=0.2))) as server:
        answer = raw(server, HEAD + b"Connection: close\r\nContent-Length: 10\r\n\r\n{")
        assert answer.split()[1] == b"408"
        assert b"too_slow" in answer


def test_clients_that_are_slow_take_nobodys_place(models):
    settings = Settings(models=models[:1], threads=1, backend="eager", limits=limits(queue=1))
    with running(settings) as server, socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(HEAD + b"Content-Length: 10\r\n\r\n{")
        until(lambda: server.server.server_state.tasks)
        assert server.client.post(IMAGES, json={"seed": 1}).status_code == 200


def test_there_is_memory_for_so_many_bodies_at_a_time(models, monkeypatch):
    monkeypatch.setattr("unistep.serving.api.guard.BODIES", 1)
    with running(Settings(models=models[:1], threads=1, backend="eager", limits=limits(body=1000))) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + b" " * 900)
            body = b'{"seed": 1}' + b" " * 200
            until(lambda: server.client.post(IMAGES, content=body).status_code == 503)
            answer = server.client.post(IMAGES, content=body)
            assert answer.json()["error"]["code"] == "overloaded"
            assert answer.headers["retry-after"] == "1"
        headers = {"Content-Type": "application/json"}
        until(lambda: server.client.post(IMAGES, content=body, headers=headers).status_code == 200)


def test_only_forms_may_be_as_large_as_pictures(server):
    answer = server.client.post(IMAGES, json={"condition": {"label": [[]] * 1_000_000}})
    assert answer.status_code == 413


def test_headers_have_an_end(server):
    for sent in (b"X-Long: " + b"x" * 200_000, b"X: 1\r\n" * 20_000):
        answer = raw(server, b"GET /health HTTP/1.1\r\nHost: x\r\n" + sent + b"\r\n\r\n")
        assert answer.split()[1] == b"400"
    answer = raw(server, b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: ", b"x" * 200_000)
    assert answer.split()[1] == b"400"
    assert server.client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n",
        b"GET /health HTTP/1.0\r\nHost: x\r\nHost: y\r\n",
        b"GET /health HTTP/2.0\r\nHost: x\r\n",
        b"GET /health HTTP/1.1\r\nHost : x\r\n",
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"BREW /health HTTP/1.1\r\nHost: x\r\n",
    ],
)
def test_what_is_no_http_is_refused(server, head):
    assert raw(server, head + b"\r\n").startswith(b"HTTP/1.1 400")
    assert raw(server, b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_requests_of_one_connection_are_answered_in_turn(server):
    sent = b"".join(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in (b"/health", b"/nothing", b"/health"))
    answer = raw(server, sent + UPGRADE % b"x" + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b" 101 " not in answer  # what is upgraded belongs to nobody else


def test_each_request_is_a_line_of_the_log_without_what_was_asked(server, caplog):
    with caplog.at_level(logging.INFO, "unistep.access"):
        answer = server.client.post(IMAGES, json={"model": "fashion", "prompt": "sneaker", "seed": 1})
        until(lambda: caplog.records)
    line = json.loads(caplog.records[-1].getMessage())
    assert line["request"] == answer.headers["x-request-id"]
    assert (line["route"], line["status"], line["model"], line["n"]) == (IMAGES, 200, "fashion", 1)
    assert line["bytes"] == len(answer.content)
    assert "sneaker" not in caplog.text


def test_requests_are_logged_also_while_a_backend_is_tried(server, caplog):
    with caplog.at_level(logging.INFO, "unistep.access"), quiet():
        server.client.get("/health")
        until(lambda: caplog.records)
    assert json.loads(caplog.records[-1].getMessage())["route"] == "/health"


def test_requests_are_counted_by_route_and_status(server):
    before = server.metric("unistep_requests_total", route=IMAGES, status="200")
    server.client.post(IMAGES, json={"seed": 1})
    until(lambda: server.metric("unistep_requests_total", route=IMAGES, status="200") == before + 1)
    for name in ("x" * 50, "y", "z"):
        server.client.get(f"/{name}")
    text = server.client.get("/metrics").text
    assert "xxxxx" not in text  # strangers make no new labels
    assert 'route="/v1/images/generations"' in text


def test_pages_from_elsewhere_may_look_and_not_ask(server):
    body = {"model": "nope"}
    own = str(server.client.base_url).rstrip("/")
    for origin, status in (("https://evil.example", 403), ("null", 403), (own, 404)):
        answer = server.client.post("/v1/images/generations", json=body, headers={"Origin": origin})
        assert answer.status_code == status
    assert server.client.get("/health", headers={"Origin": "https://evil.example"}).status_code == 200


@pytest.fixture(scope="module")
def at_loopback(models):
    with running(Settings(models=models, threads=1, backend="eager", hosts=hosts_of("127.0.0.1", ()))) as server:
        yield server


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "localhost.evil.example", "", "10.0.0.1"])
def test_a_page_that_calls_itself_by_another_name_is_not_answered(at_loopback, host):
    host = host.format(port=at_loopback.port)
    headers = {"Host": host, "Origin": f"http://{host}"}  # one origin, as the browser sees it
    for answer in (
        at_loopback.client.get("/v1/models", headers=headers),
        at_loopback.client.get("/studio/", headers=headers),
        at_loopback.client.post(IMAGES, json={"seed": 1}, headers=headers),
    ):
        assert answer.status_code == 421
        assert answer.json()["error"]["message"] == f"this server does not answer as {host!r}; see --allow-host"
        assert answer.json()["error"]["code"] == "host_refused"
    live = raw(at_loopback, UPGRADE % host.encode())
    assert live.startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("host", ["localhost", "localhost:{port}", "127.0.0.1:1", "[::1]:{port}", "LOCALHOST"])
def test_a_server_of_this_machine_answers_by_its_own_names(at_loopback, host):
    host = host.format(port=at_loopback.port)
    assert at_loopback.client.get("/v1/models", headers={"Host": host}).status_code == 200
    with socket.create_connection(("127.0.0.1", at_loopback.port), timeout=GRACE) as connection:
        connection.sendall(UPGRADE % host.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 101")


UPGRADE = (
    b"GET /v1/realtime/video HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def test_without_names_any_will_do(server):
    assert server.client.get("/v1/models", headers={"Host": "anything.example"}).status_code == 200


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves."""
    now = [100.0]
    monkeypatch.setattr("unistep.serving.api.limiting.time.monotonic", lambda: now[0])
    return now


def fill(window: Window) -> None:
    while window.has_room("a"):
        window.shares.take("a")


def test_fewer_may_come_in_while_answers_take_long_and_more_again(clock):
    window = Window(40, 1.0)
    fill(window)
    assert window.inside == 40
    for _ in range(6):
        clock[0] += 1.0
        window.leave("a", 0.9)
    shrunk = window.size
    assert Window.LEAST <= shrunk < 20
    for _ in range(200):
        fill(window)
        window.leave("a", 0.01)
    assert window.size == 40


def test_answers_of_one_batch_make_a_window_smaller_once(clock):
    window = Window(40, 1.0)
    fill(window)
    window.leave("a", 0.9)
    once = window.size
    assert once < 40
    clock[0] += 0.5
    for _ in range(20):
        window.leave("a", 0.9)  # these were inside before it was made smaller, too
    assert window.size == once
    clock[0] += 0.5
    window.leave("a", 0.9)
    assert window.size < once


def test_time_is_left_for_what_comes_after_the_network(clock):
    window = Window(40, 1.0)
    assert window.after == 0
    for _ in range(100):
        place = Place(window, "a")
        place.done()
        clock[0] += 0.1
        place.leave()
    assert window.after == pytest.approx(0.2, rel=0.02)
    for _ in range(100):
        place = Place(window, "a")
        place.done()
        clock[0] += 5.0
        place.leave()
    assert window.after == 0.5  # the network has half of the time at least
    place = Place(window, "a")
    clock[0] += 0.3
    place.leave()  # what was answered without the network says nothing of it
    assert window.after == 0.5


def test_an_answer_is_late_only_where_the_network_was_to_be_in_time(clock):
    place = Place(Window(40, 1.0), "a")
    assert place.deadline == 101.0
    clock[0] += 2.0
    assert not place.is_late  # such as a stream, which goes on
    place.done()
    assert place.is_late


def test_a_file_that_is_written_too_late_is_no_answer(server, monkeypatch):
    before = server.metric("unistep_deadline_misses_total")
    monkeypatch.setattr(Place, "is_late", property(lambda place: place._done is not None))
    answer = server.client.post(IMAGES, json={"model": "fashion", "seed": 1})
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert server.metric("unistep_deadline_misses_total") == before + 1
    assert server.client.post(IMAGES, json={"n": 0}).status_code == 400
    monkeypatch.undo()
    assert server.client.post(IMAGES, json={"model": "fashion", "seed": 1}).status_code == 200


@pytest.fixture
def full(guarded):
    """A server that has no room for more."""
    shares = guarded.app.state.door.window.shares
    shares.take("others", 10_000)
    yield guarded
    shares.give("others", 10_000)


def test_where_there_is_no_room_a_request_is_refused_before_it_is_looked_at(full):
    before = full.metric("unistep_requests_total", route="refused", status="503")
    quick = full.client.post(IMAGES, content=b"no JSON")
    assert quick.status_code == 503
    assert quick.json()["error"]["type"] == "overloaded_error"
    assert quick.headers["retry-after"] == "1"
    # A page of another origin has its headers; all others are the same, and so is the body.
    page = full.client.post(IMAGES, content=b"no JSON", headers={"Origin": "https://example.org",
                                                                "Authorization": f"Bearer {OTHER}"})  # fmt: skip
    assert page.status_code in (429, 503)
    assert page.headers["access-control-allow-origin"] == "https://example.org"
    if page.status_code == 503:
        assert page.content == quick.content
    own = {"access-control-allow-origin", "access-control-expose-headers", "vary", "date"}
    assert set(quick.headers) - own == set(page.headers) - own
    assert full.client.get("/health").status_code == 200
    assert full.client.post("/v1/videos/x").status_code == 401  # videos wait for as long as they take
    until(lambda: full.metric("unistep_requests_total", route="refused", status="503") > before)


def test_a_connection_goes_on_after_a_refusal(full):
    body = b'{"seed": 1}'
    refused = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    last = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = raw(full, refused + refused, refused + last)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"503", b"503", b"503", b"200"]
    ids = [line for line in answer.split(b"\r\n") if line.startswith(b"x-request-id")]
    assert len(set(ids)) == 4
    answer = raw(full, refused.replace(b"Host: x", b"Host: x\r\nConnection: close"))
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"connection: close" in answer


def test_a_refused_body_is_not_waited_for(full):
    answer = raw(full, HEAD + b"Content-Length: 1000\r\n\r\n{", b" " * 10)
    assert answer.startswith(b"HTTP/1.1 503")  # and the connection ends, as `raw` waits for


def test_a_request_that_waits_for_something_else_has_no_place():
    window = Window(1, 1.0)
    place = Place(window, "a")
    assert not window.has_room("a")
    with place.aside():
        assert window.has_room("a")
        other = Place(window, "a")
    assert window.inside == 2  # whoever was inside comes in again
    place.leave()
    place.leave()
    other.leave()
    assert window.inside == 0
    with place.aside():
        assert window.inside == 0
    assert window.inside == 0


def test_a_request_that_ends_before_what_it_waits_for_does_not_come_in_again():
    window = Window(1, 1.0)
    place = Place(window, "a")
    with place.aside():
        place.leave()  # as where its client has left
    assert window.inside == 0
    place.leave()
    assert window.has_room("a")
