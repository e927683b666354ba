"""What a run shows while it goes on: a live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PAUSE = 0.2  # seconds between two pictures
Progress_contra = TypeVar("Progress_contra", contravariant=True)


@dataclass(frozen=True)
class Place:
    """Where a run is: ``done`` of ``steps``, with so much ``work`` behind it."""

    done: int
    steps: int
    work: int


class View(Protocol[Progress_contra]):
    """How a kind of run is shown.

    Attributes:
        begun: where it was when this process began.
        time: what ``done`` counts, in full and short.
        work: what ``work`` counts.
        waiting: shown before anything is known.
    """

    begun: Place
    time: tuple[str, str]
    work: str
    waiting: str

    def place(self, progress: Progress_contra) -> Place:
        """Where it is."""
        ...

    def words(self, progress: Progress_contra) -> list[str] | None:
        """The latest evaluation in a few words; None if there is none yet."""
        ...

    def tables(self, progress: Progress_contra) -> Sequence[RenderableType]:
        """The latest evaluation in full; empty if there is none yet."""
        ...


class Pace:
    """How fast a run goes on; the clock starts when this is made.

    Args:
        begun: where the run is when this process begins.
    """

    def __init__(self, begun: Place) -> None:
        self.begun = begun
        self.began = perf_counter()

    def read(self, place: Place) -> tuple[float, float]:
        """Work a second, and seconds left."""
        elapsed = perf_counter() - self.began
        work, done = place.work - self.begun.work, place.done - self.begun.done
        return work / max(elapsed, 1e-9), (place.steps - place.done) * elapsed / max(done, 1)


class Lines(Generic[Progress_contra]):
    """A line an evaluation; a context manager."""

    def __init__(self, console: Console, view: View[Progress_contra]) -> None:
        self.console, self.view = console, view
        self.pace = Pace(view.begun)

    def __enter__(self) -> Lines[Progress_contra]:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def update(self, progress: Progress_contra) -> None:
        """Print a line if there is an evaluation to show."""
        words, place = self.view.words(progress), self.view.place(progress)
        if words is None:
            return
        speed, left = self.pace.read(place)
        parts = [
            f"{self.view.time[1]} {place.done}/{place.steps}",
            *words,
            f"{speed:,.0f} {self.view.work}/s",
            f"{clock(left)} left" if place.done < place.steps else "done",
        ]
        self.console.print("  ".join(parts), soft_wrap=True)


class Picture(Generic[Progress_contra]):
    """A picture that changes in place; a context manager."""

    def __init__(self, console: Console, view: View[Progress_contra]) -> None:
        self.view = view
        self.pace = Pace(view.begun)
        self.below: Sequence[RenderableType] = ()
        self.drawn = 0.0
        self.live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Picture[Progress_contra]:
        self.live.start()
        self.live.update(Text(self.view.waiting, style="dim"), refresh=True)
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def update(self, progress: Progress_contra) -> None:
        """Draw anew, if there is something new or the last time is long ago."""
        tables = self.view.tables(progress)
        self.below = tables or self.below
        now = perf_counter()
        if now - self.drawn >= PAUSE or tables:
            self.drawn = now
            self.live.update(self._draw(self.view.place(progress)), refresh=True)

    def _draw(self, place: Place) -> RenderableType:
        speed, left = self.pace.read(place)
        top = Table.grid(padding=(0, 2))
        top.add_row(
            f"{self.view.time[0]} {place.done:,} of {place.steps:,}",
            ProgressBar(total=place.steps, completed=place.done, width=20),
            f"{speed:,.0f} {self.view.work}/s",
            f"{clock(left)} left",
        )
        nothing = [Text("nothing is evaluated yet", style="dim")]
        return Group(top, *(self.below or nothing))


def display(console: Console, view: View[Any]) -> Lines[Any] | Picture[Any]:
    """The display that fits where the output goes."""
    return Picture(console, view) if console.is_terminal else Lines(console, view)


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
