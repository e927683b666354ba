"""Where the time of a run goes, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from dnicomm.core.stages import STAGES, watching
from dnicomm.runs.atomic import replacing


class StageTimer:
    """Seconds spent in each stage, and in none; a stage within another one is not the other's.

    Args:
        clock: whose seconds count; the wall's by default.
    """

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self.clock = clock
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.calls = dict.fromkeys(STAGES, 0)
        self.other = 0.0
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Within, stages are timed."""
        self._since = self.clock()
        with watching(self._stage):
            yield
        self._turn()

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self._turn()
        self._open.append(name)
        self.calls[name] += 1
        with torch.profiler.record_function(name):
            yield
        self._turn()
        self._open.pop()

    def _turn(self) -> None:
        now = self.clock()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        else:
            self.other += now - self._since
        self._since = now

    def shares(self) -> dict[str, float]:
        """Share of all the time, by stage, and of what is in none as ``other``."""
        total = sum(self.seconds.values()) + self.other
        parts = {**self.seconds, "other": self.other}
        return {name: value / total if total else 0.0 for name, value in parts.items()}


class Profile:
    """Where the time of a run's training goes; its second episode is traced instead of timed.

    The first one, in which libraries load and memory is asked for, counts only in a run of no more
    than two.

    Args:
        trace: where the trace of every operation goes, for chrome://tracing or Perfetto.
    """

    def __init__(self, trace: Path) -> None:
        self.trace = trace
        self.timer = StageTimer()
        self._played = 0

    @contextmanager
    def episode(self) -> Iterator[None]:
        """Within, an episode is played."""
        self._played += 1
        if self._played == 2:
            with torch.profiler.profile() as traced, StageTimer().watch():
                yield
            with replacing(self.trace) as temporary:
                traced.export_chrome_trace(str(temporary))
            return
        if self._played == 3:
            self.timer = StageTimer()
        with self.timer.watch():
            yield

    def figures(self) -> dict[str, Any]:
        """Seconds, share and number of calls of each stage, ready for JSON."""
        timer, shares = self.timer, self.timer.shares()
        seconds = {**timer.seconds, "other": timer.other}
        return {
            name: {"seconds": seconds[name], "share": shares[name], "calls": timer.calls.get(name)}
            for name in shares
        }
