"""Many clients at once, by Locust: those who ask for pictures, for sounds, and who read the list of models.

    make load                                  # starts a server, 50 clients, one minute
    python benchmarks/load.py --users 200 --seconds 120
    locust -f benchmarks/load.py --host http://127.0.0.1:8000     # with Locust's own pages, against any server

Prints Locust's table: requests a second, and the times in which they were answered. "Busy" (503 and 429, with the time
to wait) is counted apart and is no failure; any other error is, and the exit code is 1 then. Needs the extra
`loadtest`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from random import randrange
from typing import Any

from locust import HttpUser, between, task


class Client(HttpUser):
    """Somebody who waits a little between requests."""

    wait_time = between(0.05, 0.5)

    def on_start(self) -> None:
        """See what there is."""
        models = {one["id"]: one["unistep"] for one in self.client.get("/v1/models").json()["data"]}
        found = {media: [name for name, one in models.items() if one["modality"] == media and not one["streams"]]
                 for media in ("image", "audio")}  # fmt: skip
        self.images, self.sounds = found["image"], found["audio"]

    def _post(self, route: str, body: dict[str, Any], name: str, accept: str = "*/*") -> None:
        sent = self.client.post(route, json=body, headers={"Accept": accept}, name=name, catch_response=True)
        with sent as answer:
            if answer.status_code in (429, 503) and answer.headers.get("Retry-After"):
                answer.request_meta["name"] = f"{name}: busy"
                answer.success()

    @task(6)
    def picture(self) -> None:
        """The file of one picture."""
        if self.images:
            body = {"model": self.images[0], "seed": randrange(2**31)}
            self._post("/v1/images/generations", body, "one picture", "image/png")

    @task(2)
    def pictures(self) -> None:
        """Four pictures in JSON."""
        if self.images:
            self._post("/v1/images/generations", {"model": self.images[0], "n": 4}, "four pictures")

    @task(2)
    def sound(self) -> None:
        """A note."""
        if self.sounds:
            self._post("/v1/audio/generate", {"model": self.sounds[0], "seed": randrange(2**31)}, "a sound")

    @task(1)
    def models(self) -> None:
        """The list of models."""
        self.client.get("/v1/models")


def main() -> int:
    """Start a server and Locust."""
    from hostile import server

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--models", nargs="+", default=["fashion", "notes"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(options.models, Path(folder) / "log") as (_, port):
        command = [
            sys.executable,
            "-m",
            "locust",
            "-f",
            __file__,
            "--headless",
            "--only-summary",
            "--loglevel",
            "ERROR",
        ]
        command += ["--users", str(options.users), "--spawn-rate", str(max(1, options.users // 5))]
        command += ["--run-time", f"{options.seconds}s", "--host", f"http://127.0.0.1:{port}"]
        code = subprocess.run(command).returncode
    from unistep.evaluation.hardware import hardware

    print(hardware())
    return code


if __name__ == "__main__":
    sys.exit(main())
