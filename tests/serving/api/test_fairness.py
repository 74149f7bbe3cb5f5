"""Two clients of one server, of which one sends as much as it can."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from running_server import held, limits, running, until
from unistep.serving.settings import Settings

GREEDY, HONEST = "greedy-key-of-the-tests", "honest-key-of-the-tests"
IMAGES = "/v1/images/generations"


def test_a_greedy_client_is_refused_and_another_is_answered(models):
    settings = Settings(
        models=models[:1], threads=1, backend="eager", keys=(GREEDY, HONEST), limits=limits(queue=8)
    )  # fmt: skip
    with running(settings) as server, ThreadPoolExecutor(9) as threads:

        def ask(key: str):
            return server.client.post(IMAGES, json={"seed": 1}, headers={"Authorization": f"Bearer {key}"})

        release = held(server)
        try:
            many = [threads.submit(ask, GREEDY) for _ in range(8)]
            until(lambda: server.service.engine.depth == 8)
            alone = ask(GREEDY)
            assert alone.status_code == 503
            honest = threads.submit(ask, HONEST)
            until(lambda: server.service.engine.depth == 9)
            refused = ask(GREEDY)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"]["type"] == "rate_limit_error"
            assert "8 of your requests are here already" in refused.json()["error"]["message"]
            assert server.metric("unistep_refused_total", reason="share") == 1
        finally:
            release()
        assert honest.result().status_code == 200
        assert [one.result().status_code for one in many] == [200] * 8
        assert ask(GREEDY).status_code == 200
