"""ONNX Runtime for browsers, which npm brings when a page is exported."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
"""The package, and the version that the pages are tested with."""
WASM = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Its files that run on the processor."""
WEBGPU = ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
"""Its files that run on a graphics card."""
SECONDS = 600
"""How long npm may take."""


def check_npm() -> str:
    """The command npm.

    Raises:
        ValueError: If there is none.
    """
    command = shutil.which("npm")
    if command is None:
        raise ValueError(
            f"unistep export --to web takes {PACKAGE} by npm, and npm is not installed; install Node.js (such as apt "
            "install npm, or brew install node)"
        )
    return command


def fetch_runtime(folder: Path, *, webgpu: bool = True) -> None:
    """Put the files of ONNX Runtime for browsers into a folder.

    Args:
        folder: The folder; made where it is missing.
        webgpu: Whether to take those for graphics cards, too.

    Raises:
        ValueError: If npm is missing or fails; with the first line of what it says.
    """
    command = check_npm()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        try:
            done = subprocess.run(
                [command, "pack", "--silent", f"{PACKAGE}@{VERSION}"],
                cwd=where,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"npm did not bring {PACKAGE} within {SECONDS // 60} minutes; try again") from None
        archives = list(where.glob("*.tgz"))
        if done.returncode or not archives:
            said = next((line for line in (done.stderr + done.stdout).splitlines() if line.strip()), "it says nothing")
            raise ValueError(f"npm cannot bring {PACKAGE} {VERSION}: {said.removeprefix('npm error ').strip()}")
        with tarfile.open(archives[0]) as archive:
            for file in (*WASM, *(WEBGPU if webgpu else ())):
                _extract(archive, f"package/dist/{file}", folder / file)
            for file in ("LICENSE", "README.md"):
                if f"package/{file}" in archive.getnames():
                    _extract(archive, f"package/{file}", folder / file)


def _extract(archive: tarfile.TarFile, name: str, path: Path) -> None:
    """Write one file of an archive, whatever name it says it has."""
    try:
        content = archive.extractfile(name)
    except KeyError:
        content = None
    if content is None:
        raise ValueError(f"{PACKAGE} {VERSION} has no file {name}")
    with content, path.open("wb") as file:
        shutil.copyfileobj(content, file)
