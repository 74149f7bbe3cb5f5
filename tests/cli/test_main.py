"""The command as a whole: quick to answer, one line for every failure, the right exit code."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

import unistep
from unistep.cli import main as cli
from unistep.cli.errors import CommandError
from unistep.cli.extras import EXTRAS
from unistep.files import DiskError

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HEAVY = ["torch", "numpy", "PIL", "rich", "tyro", "torchmetrics", "sklearn", "scipy", "matplotlib", "diffusers"]


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


MEMORY = "there is not enough memory; where the command has a --batch-size, use a smaller one"


@pytest.mark.parametrize("words", ["--help", "-h", "", "help", "--version"])
def test_help_and_version_import_nothing_heavy(words):
    code = (
        "import sys\nfrom unistep.cli.main import main\ncode = main(sys.argv[1].split())\n"
        f"print([name for name in {HEAVY} if name in sys.modules], code)"
    )
    answer = python(code, words)
    assert answer.stdout.splitlines()[-1] == "[] 0", answer


def test_importing_the_package_imports_nothing_heavy():
    answer = python(f"import unistep, sys; print([name for name in {HEAVY} if name in sys.modules])")
    assert answer.stdout == "[]\n", answer


def test_version_is_that_of_the_package(capsys):
    assert unistep.__version__ == PROJECT["version"]
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"unistep {PROJECT['version']}\n"


def test_every_public_name_is_there():
    for name in unistep.__all__:
        assert getattr(unistep, name) is not None
    assert "fashion/ect" in unistep.recipes.recipes()
    assert set(unistep.__all__) <= set(dir(unistep))
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = unistep.laod


def test_extras_are_those_of_the_package():
    declared = {name for name in PROJECT["optional-dependencies"] if name not in ("dev", "docs", "loadtest")}
    assert set(EXTRAS) == declared
    for extra in declared:
        own = [package for package in PROJECT["optional-dependencies"][extra] if not package.startswith("unistep[")]
        assert len(EXTRAS[extra]) == len(own)


def test_help_names_every_verb(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in cli.VERBS:
        assert f"\n  {verb} " in text
    assert cli.main([]) == 0
    assert capsys.readouterr().out == text


def test_the_module_is_the_command():
    answer = subprocess.run([sys.executable, "-m", "unistep", "smaple"], capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert answer.stderr.startswith("unistep: error: there is no verb 'smaple'; did you mean 'sample'?")
    assert answer.stderr.count("\n") == 1


def test_a_reader_that_leaves_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "unistep", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as errors:
        assert errors.read() == ""
    assert process.wait() == cli.BROKEN_PIPE


@pytest.mark.parametrize("words", ["--help", "recipes", "recipes ect", "recipes --cite ect", "models", "info fashion"])
def test_every_verb_says_that_its_reader_left(words, monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert cli.main(words.split()) == cli.BROKEN_PIPE
    assert capsys.readouterr().err == ""


def test_a_reader_that_leaves_after_the_last_word_is_no_error(monkeypatch):
    reading, writing = os.pipe()
    with open(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert cli.main(["recipes"]) == 0
        assert os.read(reading, 2**16).startswith(b"method")
        os.close(reading)


def test_a_mistake_that_nobody_reads_keeps_its_code():
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        command = [sys.executable, "-m", "unistep", "smaple"]
        assert subprocess.run(command, stdout=pipe, stderr=pipe, check=False).returncode == 2


def test_output_that_is_closed_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["--version"]) == 0


@pytest.fixture
def failing(monkeypatch, capsys):
    """Run a verb that raises."""

    def call(error: BaseException) -> tuple[int, str]:
        def broken(arguments: list[str]) -> int:
            raise error

        monkeypatch.setattr(cli, "_dispatch", broken)
        code = cli.main(["sample"])
        captured = capsys.readouterr()
        assert captured.out == ""
        return code, captured.err

    monkeypatch.delenv(cli.DEBUG, raising=False)
    return call


class OutOfMemoryError(RuntimeError):
    """Stands for PyTorch's."""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("a\n  b"), 2, "a b"),
        (CommandError("training diverged"), 1, "training diverged"),
        (DiskError("cannot write x: No space left on device"), 1, "cannot write x: No space left on device"),
        (RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried"), 1, MEMORY),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/y"), 1, "/x/y: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied"), 1, "Permission denied"),
        (MemoryError(), 1, MEMORY),
        (OutOfMemoryError("CUDA"), 1, MEMORY),
        (
            ModuleNotFoundError("No module named 'torchmetrics'", name="torchmetrics.image"),
            2,
            "this needs the package torchmetrics: pip install 'unistep[eval]'",
        ),
    ],
)
def test_a_failure_is_one_line(failing, error, code, line):
    assert failing(error) == (code, f"unistep: error: {line}\n")


def test_warnings_of_ours_are_one_line(monkeypatch, capsys):
    usual = warnings.formatwarning

    def run(_):
        print(warnings.formatwarning("what to do", UserWarning, cli.__file__, 7), end="")
        print(warnings.formatwarning("theirs", UserWarning, "/elsewhere/torch.py", 7), end="")
        return 0

    monkeypatch.setattr("unistep.cli.models.run", run)
    assert cli.main(["models"]) == 0
    assert warnings.formatwarning is usual
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["unistep: warning: what to do", "/elsewhere/torch.py:7: UserWarning: theirs"]


def test_ctrl_c_is_quiet(failing):
    assert failing(KeyboardInterrupt()) == (130, "")


@pytest.mark.parametrize("error", [RuntimeError("ours"), ModuleNotFoundError("gone", name="unistep.nowhere")])
def test_our_own_faults_are_not_hidden(failing, error):
    with pytest.raises(type(error)):
        failing(error)


def test_the_traceback_can_be_had(failing, monkeypatch):
    monkeypatch.setenv(cli.DEBUG, "1")
    with pytest.raises(ValueError, match="seen"):
        failing(ValueError("seen"))
