"""A sign of life on standard error for what takes longer than a second; nothing where nobody watches."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE_S = 1.0
"""What is done by then needs no sign of life."""

Told = Callable[[int, int], None]
"""Takes (parts done, parts in all)."""


def _is_watched() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _untold(done: int, parts: int) -> None:
    """Nobody watches."""


@contextmanager
def working(label: str, *, quiet: bool = False, after_s: float = PATIENCE_S) -> Iterator[Told]:
    """A spinner with the time that has passed, on a terminal only, from `after_s` on until the block ends.

    quiet : never show it, as with `--json`.   The block gets a function to tell how far it is; it may leave it alone.
    """
    if quiet or not _is_watched():
        yield _untold
        return
    shown: list[Progress] = []
    lock = threading.Lock()
    done = threading.Event()

    def show() -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        with lock:
            if done.is_set():
                return
            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            progress = Progress(*columns, console=Console(stderr=True), transient=True)
            progress.add_task(label, total=None)
            progress.start()
            shown.append(progress)

    def tell(parts_done: int, parts: int) -> None:
        for progress in shown:
            progress.update(progress.task_ids[0], description=f"{label}: {parts_done / max(parts, 1):.0%}")

    timer = threading.Timer(after_s, show)
    timer.daemon = True
    timer.start()
    try:
        yield tell
    finally:
        timer.cancel()
        done.set()
        with lock:
            for progress in shown:
                progress.stop()
