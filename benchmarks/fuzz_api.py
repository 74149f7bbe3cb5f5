"""Schemathesis against the server's own description of itself, `/openapi.json`.

    make fuzz-api
    python benchmarks/fuzz_api.py --examples 200 --seed 1

Starts `unistep serve` and sends what the description allows and what it forbids, examples, boundaries and random
values. Fails on server errors, statuses and media types that are not described, and answers that do not agree with
their schema. Needs the extra `loadtest`.

Not asked: whether everything that the schema allows is accepted (which models there are, and what each takes, is no
part of a schema), nor methods that are not described.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"),
    *("response_headers_conformance", "allow_header_conformance"),
)


def main() -> int:
    """Start a server and Schemathesis."""
    from hostile import server

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=50, help="of each route, at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", nargs="+", default=["fashion", "notes", "phrases", "racing"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with server(options.models, log) as (_, port):
            command = [str(Path(sys.executable).with_name("schemathesis")), "run"]
            command += [f"http://127.0.0.1:{port}/openapi.json", "--checks", ",".join(CHECKS), "--continue-on-failure"]
            command += ["--max-examples", str(options.examples), "--seed", str(options.seed), "--no-color"]
            command += ["--request-timeout", "60", "--suppress-health-check", "all"]
            code = subprocess.run(command, cwd=folder).returncode
        text = log.read_text(errors="replace")
    if "Traceback" in text:
        print("FAILED: a traceback in the log:\n" + text[text.index("Traceback") :][:3000])
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
