"""Clients that leave, and a server that is stopped while it works."""

from __future__ import annotations

import signal
import socket
import threading
import time

import httpx2

import forks
from running_server import GRACE, held, limits, running, until
from unistep.serving.settings import Settings


def test_nothing_is_made_for_a_client_that_has_left(server):
    release = held(server)
    try:
        before = server.metric("unistep_cancelled_total")
        body = b'{"model": "fashion", "n": 3}'
        request = b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(request + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            until(lambda: server.service.engine.depth == 3)
        route = "/v1/images/generations"
        until(lambda: server.metric("unistep_requests_total", route=route, status="499") > 0)
    finally:
        release()
    until(lambda: server.metric("unistep_cancelled_total") == before + 3)
    assert server.client.post("/v1/images/generations", json={"seed": 1}).status_code == 200


def test_a_sound_ends_whose_listener_has_left(server):
    body = b'{"model": "phrases", "seconds": 60, "stream": true}'
    request = b"POST /v1/audio/generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert server.service.engine.streams == 1
    until(lambda: server.service.engine.streams == 0)
    until(lambda: not server.app.state.places._taken)


def test_half_a_body_is_no_defect(server, caplog):
    request = b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request + b"Content-Length: 100\r\n\r\n{")
        time.sleep(0.05)
    until(lambda: server.metric("unistep_requests_total", route="other", status="499") > 0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_signal_lets_what_was_asked_for_end(models):
    """SIGTERM while a request is worked on: it is answered, and nothing is said."""
    words = ["serve", models[0], "--port", "0", "--threads", "1", "--backend", "eager"]
    server = forks.Command(words)
    try:
        address = server.stdout.readline().decode().split()[0].removesuffix("/studio/")
        with httpx2.Client(base_url=address, timeout=GRACE) as client:
            until(lambda: client.get("/readyz").status_code == 200)
            long = {"model": "fashion", "n": 16, "num_inference_steps": 64, "seed": 0}
            answers = []
            asking = threading.Thread(target=lambda: answers.append(client.post("/v1/images/generations", json=long)))
            asking.start()
            until(lambda: b"unistep_batch_size_count" in client.get("/metrics").content)
            time.sleep(0.2)  # it is on its way
            server.send_signal(signal.SIGTERM)
            asking.join(GRACE)
        out, err = (said.decode() for said in server.communicate(timeout=GRACE))
    finally:
        server.process.kill()
    assert [answer.status_code for answer in answers] == [200], err
    assert len(answers[0].json()["data"]) == 16
    assert server.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in out + err


def test_a_client_that_leaves_while_its_model_is_loaded_takes_nobodys_place(models):
    settings = Settings(models=models[:2], threads=1, backend="eager", limits=limits())
    with running(settings) as server:
        pool, loader, window = server.service.pool, server.service.loader, server.app.state.door.window
        load, gate = pool.load, threading.Event()
        pool.load = lambda name: load(name) if gate.wait(GRACE) else None
        pool.drop("fashion")
        body = b'{"model": "fashion"}'
        request = b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        try:
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(request + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                until(lambda: loader._waiting == 1)
            route = "/v1/images/generations"
            until(lambda: server.metric("unistep_requests_total", route=route, status="499") == 1)
            until(lambda: loader._waiting == 0)
            assert window.inside == 0
        finally:
            gate.set()
