"""How a simulation is shown while it goes on."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from dnicomm.commands.display import Place
from dnicomm.commands.table import agents_table, channels_table, headline, metrics_line
from dnicomm.sim import Progress

SHOWN = 8  # agents and channels in a live picture


class SimulationView:
    """World time, ticks, metrics, channels and agents.

    Args:
        time: world time at which this process begins.
        agent_ticks: ticks before that.
    """

    time = ("world time", "time")
    work = "ticks"
    waiting = "the first episode is being played …"

    def __init__(self, time: int = 0, agent_ticks: int = 0) -> None:
        self.begun = Place(time, 0, agent_ticks)

    def place(self, progress: Progress) -> Place:
        """Where it is."""
        return Place(progress.time, progress.steps, progress.agent_ticks)

    def words(self, progress: Progress) -> list[str] | None:
        """The latest evaluation in a few words."""
        return None if progress.record is None else headline(progress.record)

    def tables(self, progress: Progress) -> Sequence[RenderableType]:
        """The latest evaluation, with the first channels and agents."""
        if progress.record is None:
            return ()
        tables = (
            channels_table(progress.record["channels"], SHOWN),
            agents_table(progress.record["agents"], SHOWN),
        )
        return [metrics_line(progress.record), *(table for table in tables if table is not None)]
