"""A bar on stderr that says how far a run has come, in a terminal or a notebook."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextvars import ContextVar, Token
from time import perf_counter
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PAUSE = 0.2  # seconds between two pictures
MOST_METRICS = 2  # beside the bar
WIDTH = 79  # of a line in a notebook
_drawn: ContextVar[bool] = ContextVar("drawn", default=False)  # whether there is one already


class ProgressBar:
    """A bar, a context manager; nothing at all where nobody would see it.

    In a notebook it is a line without a bar, which needs none of the notebook's own widgets.

    Args:
        unit: what is counted.
        wanted: whether to draw it; None: in a terminal or notebook only. Within another one never.
    """

    def __init__(self, unit: str, wanted: bool | None = None) -> None:
        console = Console(stderr=True, emoji=False, highlight=False)
        seen = console.is_jupyter or (sys.stderr is not None and sys.stderr.isatty())
        self.unit = unit
        self._wanted = not _drawn.get() and (seen if wanted is None else wanted)
        self._token: Token[bool] | None = None
        self._updated = 0.0
        self._words = ""  # of the latest evaluation
        self._bar: Progress | None = None
        if self._wanted and not console.is_jupyter:
            self._bar = Progress(
                TextColumn(f"{unit} {{task.completed:,.0f}} of {{task.total:,.0f}}", markup=False),
                BarColumn(20),
                TimeRemainingColumn(),
                TextColumn("{task.fields[metrics]}", markup=False),
                console=console,
                auto_refresh=False,
                # what is printed goes above the bar; into a file, where stdout is one
                redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
            )

    def __enter__(self) -> ProgressBar:
        if self._wanted:
            self._token = _drawn.set(True)
        if self._bar is not None:
            self._bar.start()
        return self

    def update(self, done: int, steps: int, metrics: Mapping[str, Any] | None = None) -> None:
        """Draw it anew, if there are metrics or the last time is long ago.

        Args:
            done: of ``steps``.
            steps: until the end.
            metrics: of the latest evaluation; None: there is no new one.
        """
        now = perf_counter()
        due = metrics is not None or done in (0, steps) or now - self._updated >= PAUSE
        if not (self._wanted and due):
            return
        self._updated = now
        if metrics is not None:
            known = {name: value for name, value in metrics.items() if value is not None}
            tested = {n: value for n, value in known.items() if not n.startswith("train_")}
            shown = list((tested or known).items())[:MOST_METRICS]
            self._words = "  ".join(f"{name} {value:.3g}" for name, value in shown)
        if self._bar is None:
            line = f"{self.unit} {done:,} of {steps:,}  {self._words}"
            print(f"\r{line:<{WIDTH}}", end="", file=sys.stderr, flush=True)
            return
        if not self._bar.tasks:
            self._bar.add_task("", total=steps, metrics="")
        task = self._bar.task_ids[0]
        self._bar.update(task, completed=done, total=steps, metrics=self._words, refresh=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._token is not None:
            _drawn.reset(self._token)
        if self._bar is not None:
            self._bar.stop()
        elif self._wanted:
            print(file=sys.stderr)
