"""Draw `docs/images/editing.png`, before and after: `python docs/editing.py`."""

from __future__ import annotations

from pathlib import Path

import unistep
from unistep.data import data_config, prepare
from unistep.editing.task import EditOptions
from unistep.generation.editing import make_task
from unistep.modalities.contact_sheet import draw_rows

SHOWN = 8
TASKS = {
    "emoji": (("colorize", {}), ("upscale", {"factor": 4.0}), ("denoise", {"sigma": 0.4})),
    "fashion": (("inpaint", {"mask": "center"}), ("deblur", {"kernel": "gaussian:1.5"}), ("vary", {"strength": 0.3})),
}
DATA = {"emoji": "emoji:test", "fashion": "fashion-mnist:test"}


def main() -> None:
    """Edit the first held-out items, evenly spread, without their labels and texts, with seeds from 0."""
    rows = []
    for name, tasks in TASKS.items():
        data, g = prepare(data_config(DATA[name]), progress=False), unistep.load(name)
        x = data.modality.to_signal(data.batch([i * len(data) // SHOWN for i in range(SHOWN)], None)[0])
        for task, options in tasks:
            work = make_task(g, task, EditOptions(**options))
            y = x if task == "vary" else work.noisy(work.degraded(x), list(range(SHOWN)))
            problem = work.problem(y)
            before = problem.beginning if problem.shown is None else problem.shown
            assert before is not None
            before = y.repeat_interleave(4, 2).repeat_interleave(4, 3) if task == "upscale" else before
            for title, signals in ((task, before), ("", g.edit(work, y))):
                pictures = [g.modality.grid(one[None], columns=1).resize((104, 104)) for one in signals]
                rows.append((title, [picture.convert("RGB") for picture in pictures]))
    draw_rows(rows).save(Path(__file__).parent / "images" / "editing.png", optimize=True)


if __name__ == "__main__":
    main()
