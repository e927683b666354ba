"""What a run shows while it goes on: a live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dnicomm.commands.table import agents_table, channels_table, figure, headline, tested
from dnicomm.sim import Progress

SHOWN = 8  # agents and channels in a live picture
PAUSE = 0.2  # seconds between two pictures


class Display(Protocol):
    """Follows a run; a context manager."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *error: object) -> None: ...

    def update(self, progress: Progress) -> None:
        """Show where the run is."""
        ...


class Pace:
    """How fast world time goes by; the clock starts when this is made.

    Args:
        time: world time at which this process begins.
        agent_ticks: ticks before that.
    """

    def __init__(self, time: int, agent_ticks: int) -> None:
        self.time, self.agent_ticks = time, agent_ticks
        self.began = perf_counter()

    def read(self, progress: Progress) -> tuple[float, float]:
        """Ticks a second, and seconds left."""
        elapsed = perf_counter() - self.began
        ticks, done = progress.agent_ticks - self.agent_ticks, progress.time - self.time
        return ticks / max(elapsed, 1e-9), (progress.steps - progress.time) * elapsed / max(done, 1)


class Lines:
    """A line an evaluation."""

    def __init__(self, console: Console, pace: Pace) -> None:
        self.console = console
        self.pace = pace

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def update(self, progress: Progress) -> None:
        speed, left = self.pace.read(progress)
        if progress.record is None:
            return
        parts = [
            f"time {progress.time}/{progress.steps}",
            *headline(progress.record),
            f"{speed:,.0f} ticks/s",
            f"{clock(left)} left" if progress.time < progress.steps else "done",
        ]
        self.console.print("  ".join(parts), soft_wrap=True)


class Picture:
    """A picture that changes in place."""

    def __init__(self, console: Console, pace: Pace) -> None:
        self.pace = pace
        self.record: Mapping[str, Any] | None = None
        self.drawn = 0.0
        self.live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Picture:
        self.live.start()
        self.live.update(Text("the first episode is being played …", style="dim"), refresh=True)
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def update(self, progress: Progress) -> None:
        speed, left = self.pace.read(progress)
        if progress.record is not None:
            self.record = progress.record
        now = perf_counter()
        if now - self.drawn >= PAUSE or progress.record is not None:
            self.drawn = now
            self.live.update(self.draw(progress, speed, left), refresh=True)

    def draw(self, progress: Progress, speed: float, left: float) -> RenderableType:
        top = Table.grid(padding=(0, 2))
        top.add_row(
            f"world time {progress.time:,} of {progress.steps:,}",
            ProgressBar(total=progress.steps, completed=progress.time, width=20),
            f"{speed:,.0f} ticks/s",
            f"{clock(left)} left",
        )
        if self.record is None:
            return Group(top, Text("nothing is evaluated yet", style="dim"))
        metrics = Text(f"evaluated at {self.record['time']:,}:")
        for name, value in tested(self.record["metrics"]).items():
            metrics.append(f"   {name} ").append(figure(value), "bold")
        tables = (
            channels_table(self.record["channels"], SHOWN),
            agents_table(self.record["agents"], SHOWN),
        )
        return Group(top, metrics, *(table for table in tables if table is not None))


def display(console: Console, time: int, agent_ticks: int) -> Display:
    """The display that fits where the output goes, of a run that is at ``time``."""
    kind = Picture if console.is_terminal else Lines
    return kind(console, Pace(time, agent_ticks))


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
