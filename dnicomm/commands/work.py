"""What a run folder is about: a simulation, or one of the paper's experiments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from dnicomm.commands.at_work import quoted
from dnicomm.commands.loggers import ways_on
from dnicomm.runs import Checkpoint, RunFolder

if TYPE_CHECKING:
    from dnicomm.sim.onlooking import Sight

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What is asked of a test.

    Args:
        episodes: to play; None: as configured.
        metrics: families of communication metrics; None: all; empty: none.
        channels: whose communication; None: the first ones.
        world: which world of the first episode ``onlooker`` is shown.
        onlooker: is shown that world at each time; None: nobody looks on.
    """

    episodes: int | None = None
    metrics: Sequence[str] | None = None
    channels: Sequence[str] | None = None
    world: int = 0
    onlooker: Callable[[Sight], None] | None = None


class Work(ABC):
    """Something built from a configuration that can be carried to its end in a run folder.

    Attributes:
        config: the configuration, checked.
        time: what a checkpoint's time counts, for messages.
        recorded: keys of each evaluation in ``metrics.jsonl``.
    """

    config: dict[str, Any]
    time: str
    recorded: tuple[str, ...]

    @abstractmethod
    def __init__(self, values: Mapping[str, Any]) -> None:
        """Build it.

        Raises:
            UserError: if the configuration is wrong; names the key and what is allowed.
        """

    @abstractmethod
    def restore(self, checkpoint: Checkpoint) -> None:
        """Go to a checkpoint.

        Raises:
            UserError: if it does not fit the configuration.
        """

    @abstractmethod
    def carry_on(self, folder: RunFolder, console: Console) -> Summary:
        """Train to the configuration's end, and show it.

        Raises:
            Stopped: if the user stops it.
            UserError: if a plug-in does what it must not.
        """

    @abstractmethod
    def test(self, checkpoint: Checkpoint, wanted: Wanted) -> dict[str, Any]:
        """Go to a checkpoint of its run and evaluate once more; what came out, ready for JSON.

        Raises:
            UserError: if something is asked for that there is not.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the environments, if it has any; once it is closed, do nothing."""

    @staticmethod
    @abstractmethod
    def show_test(console: Console, found: Mapping[str, Any]) -> None:
        """What came out of a test, as tables."""

    @staticmethod
    @abstractmethod
    def words(summary: Summary) -> list[str]:
        """What came out, in a few words."""

    @staticmethod
    @abstractmethod
    def figures(summary: Summary) -> dict[str, Any]:
        """What came out, by name, for a row of a sweep's table."""

    @staticmethod
    @abstractmethod
    def show(console: Console, summary: Summary) -> None:
        """What came out, as tables."""

    @staticmethod
    @abstractmethod
    def next(
        folder: Path, summary: Summary, config: Mapping[str, Any]
    ) -> Iterable[tuple[str, str]]:
        """Commands to try next, and why."""

    @classmethod
    def conclude(
        cls, console: Console, folder: Path, summary: Summary, config: Mapping[str, Any]
    ) -> None:
        """The tables at the end, where the run lies, and what to try next."""
        cls.show(console, summary)
        console.print(f"\n{folder}", soft_wrap=True, style="bold")
        console.print(f"look at it: {quoted(folder / 'report.html')}", soft_wrap=True, style="dim")
        console.print("\nTry next:")
        console.print(f"  dnicomm eval {quoted(folder)}", soft_wrap=True)
        console.print("      test it again, without training", soft_wrap=True, style="dim")
        logs = ways_on(config.get("logger") or (), quoted(folder))
        for command, why in (*logs, *cls.next(folder, summary, config)):
            console.print(f"  {command}", soft_wrap=True)
            console.print(f"      {why}", soft_wrap=True, style="dim")


def kind_of(config: Mapping[str, Any]) -> type[Work]:
    """What a configuration is of."""
    if "bench" in config:
        from dnicomm.commands.bench.training import ExperimentWork

        return ExperimentWork
    from dnicomm.commands.training import SimulationWork

    return SimulationWork
