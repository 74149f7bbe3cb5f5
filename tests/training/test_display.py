"""What training prints: plain lines that appear at once in a file or a pipe, and a bar on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from unistep.training.display import Display, show_line, show_table

COMMAND = "unistep train ect --out '/a folder/" + 150 * "x" + "' --resume"


class Pipe(io.StringIO):
    """A file that knows how much of it a reader has seen."""

    seen = 0

    def flush(self) -> None:
        self.seen = len(self.getvalue())


def test_output_in_a_pipe_is_plain_and_appears_at_once() -> None:
    pipe = Pipe()
    console = Console(file=pipe, width=40)
    show_table(console, "plan", {"data": "folder:[red]pictures[/red]", "go on with": COMMAND})
    assert pipe.getvalue() == f"plan\ndata        folder:[red]pictures[/red]\ngo on with  {COMMAND}\n"
    assert pipe.seen == len(pipe.getvalue())
    display = Display(console, 100, 0, "images", interval=0.0)
    with display:
        display.update(50, 0.25, 80.0, 0)
        assert pipe.seen == len(pipe.getvalue())
        display.update(60, 0.25, 80.0, 2, 61)  # a deadline has made the run shorter
        display.warn("[bold] is not markup")
        show_line(console, COMMAND)
    assert pipe.seen == len(pipe.getvalue())
    lines = pipe.getvalue().splitlines()[3:]
    assert lines[0].startswith("step 50/100  loss 0.2500  80 images/s  ")
    assert lines[1].startswith("step 60/61  loss 0.2500  80 images/s  2 skipped  ")
    assert lines[2:] == ["[bold] is not markup", COMMAND]
    assert not [c for c in pipe.getvalue() if ord(c) < 32 and c != "\n"]


def test_a_terminal_has_a_bar() -> None:
    text = io.StringIO()
    console = Console(file=text, width=100, force_terminal=True)
    with Display(console, 10, 0) as display:
        display.update(5, 0.25, 80.0, 0, 10)
    assert "5/10" in text.getvalue()
