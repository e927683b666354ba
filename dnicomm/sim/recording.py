"""Recording what happens in the first world of some training episodes, for people to look at.

Nothing is changed by it: the run that is recorded equals the one that is not, bit for bit. The
last episodes before an evaluation are recorded, ``SPAN`` units of world time or one episode, at the
1st, 2nd, 4th, 8th … evaluation and at the last, up to ``MOST`` ticks and as many messages; so a
recording is small, and so is their number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from dnicomm.sim.engine import Engine
from dnicomm.sim.episode_recording import MOST, TIMES, EpisodeRecording, Recorded
from dnicomm.sim.message_sample import thinned

SPAN = 60  # world time of a recording of short episodes; of longer ones it is one


def is_recorded(number: int, last: bool) -> bool:
    """Whether there is a recording before the evaluation of a number, 1 the first."""
    return last or number & (number - 1) == 0


class Recorder:
    """Records episodes of an engine that learns; :meth:`take` hands over the latest ones."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._episodes: list[Recorded] = []

    def wanted(self, time: int, every: int, steps: int) -> bool:
        """Whether an episode that begins at world time ``time`` is to be recorded."""
        span = max(self.engine.world.horizon, SPAN)
        number = time // every + 1  # of the evaluation that comes next
        due = min(number * every, steps)
        return is_recorded(number, last=due == steps) and time + span >= due

    @contextlib.contextmanager
    def recording(self, began: int) -> Iterator[None]:
        """Record the episode that is played inside; it begins at world time ``began``."""
        episode = EpisodeRecording(self.engine)
        self.engine.observer = episode.ticked
        try:
            yield
        finally:
            self.engine.observer = None
        self._episodes.append(episode.recorded(began))
        del self._episodes[:-SPAN]

    def take(self) -> Recorded | None:
        """What was recorded since the last time, as far as there is room; None: nothing."""
        episodes, self._episodes = self._episodes, []
        found = episodes.pop() if episodes else None
        while found is not None and episodes and _fit(episodes[-1], found):
            found = _joined(episodes.pop(), found)
        return found and Recorded(thinned(found.columns), found.facts)


def _fit(one: Recorded, other: Recorded) -> bool:
    """Whether an episode and the recording that follows it are together still short and small."""
    small = all(len(one.columns[name]) + len(other.columns[name]) <= MOST
                for name in ("tick.time", "message.sent"))  # fmt: skip
    whole = one.facts["until"] == one.facts["length"]
    return small and whole and one.facts["length"] + other.facts["length"] <= SPAN


def _joined(first: Recorded, then: Recorded) -> Recorded:
    """Episodes in a row as one recording."""
    shift, columns = first.facts["length"], dict(first.columns)
    for name, values in then.columns.items():
        if name in TIMES:  # -1 says that there is no time
            values = np.where(values < 0, values, values + shift).astype(values.dtype)
        columns[name] = np.concatenate([columns[name], values]) if name in columns else values
    starts = [*first.facts["starts"], *(start + shift for start in then.facts["starts"])]
    length = shift + then.facts["length"]
    facts = {"length": length, "until": shift + then.facts["until"], "starts": starts}
    return Recorded(columns, {**then.facts, "began": first.facts["began"], **facts})
