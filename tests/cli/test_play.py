"""``unistep play``: in a terminal that is left as it was whatever happens, in a window, and to files."""

from __future__ import annotations

import codecs
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from fcntl import ioctl
from importlib.util import find_spec
from pathlib import Path
from struct import pack
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from cli.standins import STEERED, save_stream, save_world
from unistep.cli import terminal
from unistep.cli.half_blocks import cells_of, drawn, fitted
from unistep.cli.main import main
from unistep.cli.sixel import BEGIN
from unistep.cli.terminal import ENTER, LEAVE, KeyReader, find_colours
from unistep.cli.terminal_answers import QUESTIONS
from unistep.generation.keys import Keys
from unistep.generation.play import ModelWorld
from unistep.hub import load


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_world(tmp_path_factory.mktemp("world") / "world")


class Terminal:
    """A pseudo-terminal of 40 columns and 12 rows: what is sent to it is kept, and keys are typed by hand."""

    def __init__(self) -> None:
        self.outer, self.inner = pty.openpty()
        ioctl(self.inner, termios.TIOCSWINSZ, pack("HHHH", 12, 40, 0, 0))
        self.before = self.settings()
        self.received = ""
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def settings(self) -> list:
        return termios.tcgetattr(self.inner)

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        while True:
            try:
                sent = os.read(self.outer, 65_536)
            except OSError:
                return
            if not sent:
                return
            self.received += decoder.decode(sent)

    def until(self, condition: Callable[[str], bool], seconds: float = 30.0) -> str:
        """Wait for what a program sends."""
        end = time.monotonic() + seconds
        while not condition(self.received):
            assert time.monotonic() < end, self.received[-2000:]
            time.sleep(0.005)
        return self.received

    def type(self, keys: bytes) -> None:
        os.write(self.outer, keys)

    def close(self) -> None:
        os.close(self.inner)
        self._reading.join(timeout=5)
        os.close(self.outer)


@pytest.fixture
def tty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal to play in."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    made = Terminal()
    yield made
    made.close()


def play(tty: Terminal, *words: str) -> int:
    """Play in a terminal that is this program's own."""
    with (
        os.fdopen(os.dup(tty.inner), "r") as source,
        os.fdopen(os.dup(tty.inner), "w") as target,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "stdin", source)
        patch.setattr(sys, "stdout", target)
        return main(["play", *words])


def frames(text: str) -> int:
    return text.count("\033[?2026l")


def status(text: str) -> str:
    """The first word of the newest line below the picture."""
    return text.rpartition("\033[12;1H")[2].partition(" ")[0]


def meanwhile(tty: Terminal, action: Callable[[], object]) -> threading.Thread:
    """Do something while a game goes on, and quit in the end where it has not."""

    def whole() -> None:
        try:
            action()
        finally:
            tty.type(b"q")

    thread = threading.Thread(target=whole)
    thread.start()
    return thread


def check_restored(tty: Terminal) -> None:
    """The terminal is as it was, and the program's own screen was left last."""
    tty.until(lambda text: LEAVE in text)
    assert tty.settings() == tty.before
    assert tty.received.count(ENTER) == tty.received.count(LEAVE) == 1
    assert "\033" not in tty.received.rpartition(LEAVE)[2]


def test_keys_steer_and_the_terminal_is_left_as_it_was(tty, world, capsys):
    raw = []

    def player() -> None:
        tty.until(lambda text: frames(text) > 2)
        raw.append(tty.settings())
        tty.type(b"\033[A")
        tty.until(lambda text: status(text) == "gas")
        tty.type(b"a")
        tty.until(lambda text: status(text) == "left+gas")
        tty.until(lambda text: status(text) == "none")
        tty.type(b" ")
        tty.until(lambda text: "paused; space goes on" in text)
        tty.type(b"q")

    thread = meanwhile(tty, player)
    assert play(tty, str(world), "--hold", "0.5") == 0
    thread.join()
    check_restored(tty)
    assert not raw[0][3] & (termios.ICANON | termios.ECHO)
    assert raw[0][6][termios.VSUSP] != tty.before[6][termios.VSUSP]
    err = capsys.readouterr().err
    assert "deadlines missed; a key is seen after" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("answer", "words", "pixels"),
    [
        (b"\033[6;20;10t\033[?62;4;22c", (), True),
        (b"\033[?62;22c", (), False),
        (b"\033[?62;22c", ("--picture", "sixel"), True),
        (b"", ("--picture", "blocks"), False),
    ],
)
def test_pictures_are_in_pixels_where_the_terminal_says_so(tty, world, capsys, answer, words, pixels):
    def player() -> None:
        if answer:
            tty.until(lambda text: QUESTIONS in text)
            tty.type(answer)
        tty.until(lambda text: frames(text) > 2)
        tty.type(b"\033[A")
        tty.until(lambda text: status(text) == "gas")

    thread = meanwhile(tty, player)
    assert play(tty, str(world), *words) == 0
    thread.join()
    check_restored(tty)
    assert (BEGIN in tty.received) == pixels
    assert ("▀" in tty.received) != pixels
    assert tty.received.count("\033\\") == tty.received.count(BEGIN) + 1  # each has its end, and so has the whole
    assert "frames, a frame in" in capsys.readouterr().err


def test_a_model_that_fails_is_one_line_in_a_terminal_that_is_as_it_was(tty, world, capsys, monkeypatch):
    step, left = ModelWorld.step, [4]

    def failing(self: ModelWorld, action: torch.Tensor) -> torch.Tensor:
        left[0] -= 1
        if not left[0]:
            raise ValueError("the model is broken")
        return step(self, action)

    monkeypatch.setattr(ModelWorld, "step", failing)
    assert play(tty, str(world), "-o", "a.gif") == 2
    check_restored(tty)
    assert capsys.readouterr().err.splitlines()[-1] == "unistep: error: the model is broken"
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("how", ["SIGTERM", "SIGHUP", "SIGINT", "Ctrl-C"])
def test_a_signal_leaves_the_terminal_as_it_was(tty, world, capsys, how):
    def end() -> None:
        tty.until(lambda text: frames(text) > 2)
        if how == "Ctrl-C":
            tty.type(b"\033[99;5u")  # as a terminal with key-up events sends it
        else:
            os.kill(os.getpid(), getattr(signal, how))

    held = signal.signal(signal.SIGINT, signal.default_int_handler)
    hung_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which is left alone where it is ignored, as under nohup
    thread = meanwhile(tty, end)
    try:
        assert play(tty, str(world), "-o", "a.gif") == 130
    finally:
        signal.signal(signal.SIGINT, held)
        signal.signal(signal.SIGHUP, hung_up)
    thread.join()
    check_restored(tty)
    with Image.open("a.gif") as image:  # what was played
        assert getattr(image, "n_frames", 1) >= 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_full_disk_in_the_middle_leaves_nothing(tty, world, capsys, monkeypatch):
    import resource

    monkeypatch.setattr("unistep.modalities.gif_stream.KEPT", 4)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**13, hard))
    try:
        assert play(tty, str(world), "-o", "a.gif", "--fps", "1000") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    check_restored(tty)
    assert capsys.readouterr().err.splitlines()[-1] == "unistep: error: cannot write a.gif: File too large"
    assert not list(Path.cwd().iterdir())


def test_a_process_that_is_killed_politely_leaves_the_terminal_as_it_was(world):
    made = Terminal()
    environment = {**os.environ, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
    environment.pop("COLORTERM", None)
    command = [sys.executable, "-m", "unistep", "play", str(world)]
    process = subprocess.Popen(
        command, stdin=made.inner, stdout=made.inner, stderr=subprocess.PIPE, env=environment, start_new_session=True
    )
    text = made.until(lambda text: frames(text) > 2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "\033[38;5;" in text
    assert "\033[38;2;" not in text
    check_restored(made)
    assert b"Traceback" not in err
    made.close()


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "true"),
        ({"TERM": "screen-256color"}, "256"),
        ({"TERM": "xterm-direct"}, "true"),
    ],
)
def test_a_terminal_says_what_colours_it_has(monkeypatch, variables, found):
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stdin=Ends(), stdout=Ends()))
    assert find_colours(variables) == found
    for poor in ({"TERM": "dumb"}, {"TERM": "linux"}, {}):
        with pytest.raises(ValueError, match="has too few colours for pictures: play in a window with --window"):
            find_colours(poor)


class Ends:
    def isatty(self) -> bool:
        return True


class Recorder(Keys):
    """Writes down what it gets."""

    def __init__(self) -> None:
        super().__init__(STEERED)
        self.seen: list[str] = []

    def press(self, key: str) -> None:
        self.seen.append(key)

    def release(self, key: str, *, after: float = 0.0) -> None:
        self.seen.append(f"-{key}")


def test_what_a_terminal_sends_becomes_keys_in_any_pieces(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: now[0]))
    sent = b"\033[A\033OBq\033[C\033[Dw \033[1;1:3A\033[119;1:1u\033[119;1:3u\033[27u\033[200~"
    wanted = ["up", "down", "q", "right", "left", "w", " ", "-up", "w", "-w", "escape", ""]
    for pieces in ([sent], [sent[i : i + 1] for i in range(len(sent))]):
        keys = Recorder()
        reader = KeyReader(keys)
        for piece in pieces:
            reader.feed(piece)
            reader.expire()
        assert keys.seen == wanted
        assert not reader.waits
    keys = Recorder()
    reader = KeyReader(keys)
    reader.feed(b"\033")
    reader.expire()
    assert (keys.seen, reader.waits) == ([], True)
    now[0] += 0.06
    reader.expire()
    assert (keys.seen, reader.waits) == (["escape"], False)
    assert not keys.releases
    reader.feed(b"\033[?11u")
    assert keys.releases
    for ctrl_c in (b"\003", b"\033[99;5u"):
        with pytest.raises(KeyboardInterrupt):
            reader.feed(ctrl_c)


def test_pictures_fit_the_terminal_and_only_changes_are_drawn():
    pixels = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    assert fitted(pixels, 20, 100).shape == (24, 18, 3)
    assert np.array_equal(fitted(pixels, 20, 100)[::3, ::3], pixels)
    assert fitted(pixels, 3, 100).shape == (4, 3, 3)
    assert fitted(pixels, 100, 3).shape == (6, 4, 3)
    assert fitted(pixels[:7], 6, 100).shape == (8, 6, 3)
    cells = cells_of(pixels, "true")
    whole = drawn(cells, None)
    assert whole.count("▀") == 24
    assert whole.startswith("\033[1;1H\033[38;2;0;1;2;48;2;18;19;20m▀")
    other = cells.copy()
    other[2, 3, 1] = 255
    assert drawn(other, cells, top=5, left=10) == (
        f"\033[7;13H\033[38;2;{';'.join(map(str, cells[2, 3, 0]))};48;2;255;255;255m▀"
    )
    assert drawn(cells, cells) == ""
    assert drawn(cells, cells[:2]).count("▀") == 24
    some = np.array([[[0, 0, 0], [255, 0, 0]], [[128, 128, 128], [255, 255, 255]]], np.uint8)
    assert cells_of(some, "256")[..., 0].tolist() == [[[16, 244], [196, 231]]]
    assert "\033[38;5;16;48;5;244m" in drawn(cells_of(some, "256"), None)


def emulated(text: str, rows: int, columns: int) -> np.ndarray:
    """The pixels that a terminal of so many rows shows after a text of half blocks in all colours."""
    shown = np.zeros((2 * rows, columns, 3), np.uint8)
    row = column = 0
    upper = lower = (0, 0, 0)
    for y, x, colours, block in re.findall(r"\033\[(\d+);(\d+)H|\033\[([\d;]+)m|(▀)", text):
        if y:
            row, column = int(y) - 1, int(x) - 1
        elif colours:
            numbers = [int(number) for number in colours.split(";")]
            assert (numbers[:2], numbers[5:7]) == ([38, 2], [48, 2])
            upper, lower = tuple(numbers[2:5]), tuple(numbers[7:])
        elif block:
            shown[2 * row, column], shown[2 * row + 1, column] = upper, lower
            column += 1
    return shown


def test_changes_leave_the_newest_picture_on_the_screen():
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (12, 10, 3), np.uint8)
    text, before = "", None
    for _ in range(6):
        picture = np.where(random.random((12, 10, 1)) < 0.1, random.integers(0, 256, (12, 10, 3), np.uint8), picture)
        cells = cells_of(picture, "true")
        text += drawn(cells, before, top=2, left=4)
        before = cells
    assert np.array_equal(emulated(text, 7, 13)[2:, 3:], picture)
    assert text.count("▀") < 6 * 60


def test_a_script_is_written_to_a_file(run, world):
    outcome = run("play -o a.gif --seed 4 --script gas*2,left+gas,none*2", [str(world)])
    assert outcome.code == 0, outcome
    assert outcome.out == "written to a.gif\n"
    assert outcome.err.startswith("0.2 s of video, a chunk of 40 ms in ")
    Path("a.csv").write_text("action,frames\ngas,2\nleft+gas,1\nnone,2\n")
    assert run("play -o b.gif --seed 4 --actions a.csv", [str(world)]).code == 0
    assert Path("a.gif").read_bytes() == Path("b.gif").read_bytes()
    g = load(world)
    wanted = next(g.stream(seed=4, action="gas"))
    with Image.open("a.gif") as image:
        assert getattr(image, "n_frames", 1) == 5
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[:, None]
    assert (pixels.int() - g.modality.to_stored(wanted).int()).abs().max() <= 8


@pytest.mark.skipif(
    not all(find_spec(name) for name in ("gymnasium", "Box2D", "pygame")),
    reason="the game is missing: pip install 'unistep[racing]'",
)
def test_the_real_game_drives_beside_the_model(run, tmp_path):
    from unistep.data.games import open_game
    from unistep.data.sources.racing import FIELDS

    spec = FIELDS["action"]
    model = save_world(tmp_path / "racing", spec)  # type: ignore[arg-type]
    outcome = run("play --beside --seed 5 --script gas*2 -o a.gif", [str(model)])
    assert outcome.code == 0, outcome
    with Image.open("a.gif") as image:
        assert image.size == (36, 16)
        assert getattr(image, "n_frames", 1) == 2
        shown = np.array(image.convert("RGB")).astype(int)
    g = load(model)
    game = open_game("racing:train", g.config.chunk, spec, seed=5)  # type: ignore[arg-type]
    first = game.reset()
    gas = spec.parse("action", "gas", 1).tensors["vector"][0]
    frame = game.step(gas)
    assert (
        np.abs(shown[:, :16] - g.modality.to_stored(frame)[:, 0].permute(1, 2, 0).numpy()).mean() <= 8
    )  # of 256 colours
    follows = next(g.stream(seed=5, past=first, action=gas))
    assert (
        np.abs(shown[:, 20:] - g.modality.to_stored(follows)[:, 0].permute(1, 2, 0).numpy()).mean() <= 8
    )  # of 256 colours


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", "there is no terminal to play in: play in a window with --window, or to a file with --script and -o"),
        ("--script gas*2", "say with -o where the frames of the script go, such as -o out.mp4"),
        ("--script gas*2 -o a.wav", "must end with .mp4 or .webm or .gif"),
        ("--script gass*2 -o a.gif", "part 1 of the script, 'gass*2': action must be left, right, gas"),
        ("--script gas*2 --actions b.csv -o a.gif", "--script and --actions both say what is done"),
        ("--actions b.csv -o a.gif", "b.csv: no such file"),
        ("--action left", "--action is what you play; give --script or --actions"),
        ("--fps 0", "--fps must be a number above 0, got 0"),
        ("--fps 1e6 --script gas -o a.gif", "fps must be from"),
        ("--solver heun --script gas -o a.gif", "is a one-step model: it takes neither a solver nor guidance"),
        ("--picture ascii", "ascii"),
        ("--threads 0", "--threads must be at least 1, got 0"),
        ("--hold 0", "hold must be a number of seconds above 0, got 0"),
        ("--script gas -o a.gif --from nowhere.png", "nowhere.png"),
        ("--script gas -o a.gif --steps 0", "steps must be at least 1, got 0"),
    ],
)
def test_a_mistake_is_one_line(run, world, place, options, words):
    outcome = run(["play", str(world)], options)
    assert outcome.code == 2
    assert words in outcome.err
    assert outcome.err.count("\n") == 1
    assert list(place.iterdir()) == []


def test_a_game_with_other_controls_and_models_of_other_things_are_refused(run, world, place, tmp_path):
    outcome = run("play --beside --script gas -o a.gif", [str(world)])
    assert outcome.code == 2
    assert "racing" in outcome.err
    outcome = run(["play", str(save_stream(tmp_path / "phrases"))], "--script gas -o a.gif")
    assert outcome.code == 2
    assert "takes no actions; it takes instrument, pitch" in outcome.err
    assert list(place.iterdir()) == []


def test_no_key_is_held_in_a_window_that_was_left(run, world, monkeypatch):
    """It never hears of a key that is let go elsewhere."""
    window = FakeTk()
    window.script = [(3, "<KeyPress>", "Up"), (8, "<FocusOut>", ""), (40, "<KeyPress>", "q")]
    monkeypatch.setitem(sys.modules, "tkinter", window)
    assert run("play --window --fps 200", [str(world)]).code == 0
    held = [line.split()[0] for line in window.lines if line]
    assert "gas" in held
    assert held[-1] == "none"


def test_a_window_has_keys_that_go_up_and_closes(run, world, monkeypatch):
    """A stand-in for Tk, since no display is needed for that."""
    window = FakeTk()
    monkeypatch.setitem(sys.modules, "tkinter", window)
    outcome = run("play --window --fps 200", [str(world)])
    assert outcome.code == 0, outcome
    assert window.closed
    assert window.pictures[0][:15] == b"P6 640 640 255\n"
    assert len(window.pictures[0]) == 15 + 640 * 640 * 3
    assert any(line.startswith("gas ") for line in window.lines)
    assert window.lines[-1].startswith("none ")
    window.fails = True
    outcome = run("play --window", [str(world)])
    assert outcome.code == 2
    assert "no window can be opened (no display name): play in the terminal without --window" in outcome.err


class FakeTk:
    """As much of tkinter as is used; the key up goes down, and up again a while later, and then q."""

    TclError = RuntimeError

    def __init__(self) -> None:
        self.pictures, self.lines, self.handlers = list[bytes](), list[str](), {}
        self.closed = self.fails = False
        self.script = [(3, "<KeyPress>", "Up"), (8, "<KeyRelease>", "Up"), (40, "<KeyPress>", "q")]

    def Tk(self) -> FakeTk:  # noqa: N802
        if self.fails:
            raise RuntimeError("no display name")
        return self

    def Label(self, root: FakeTk, **settings: object) -> FakeTk:  # noqa: N802
        return self

    def PhotoImage(self, *, data: bytes, format: str) -> bytes:  # noqa: N802
        self.pictures.append(data)
        while self.script and len(self.pictures) >= self.script[0][0]:
            _, event, key = self.script.pop(0)
            self.handlers[event](SimpleNamespace(keysym=key))
        return data

    def configure(self, **settings: object) -> None:
        if "text" in settings:
            self.lines.append(str(settings["text"]))

    def bind(self, event: str, handler: Callable[[object], object]) -> None:
        self.handlers[event] = handler

    def destroy(self) -> None:
        self.closed = True

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *words, **settings: None
