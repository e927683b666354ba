"""An experiment that the simulator's engine runs: an update is an episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dnicomm.bench.experiment import Experiment
from dnicomm.sim import Simulation


class Simulated(Experiment):
    """An experiment around a ``simulation``; a subclass builds it."""

    simulation: Simulation

    def play(self) -> int:
        """One episode; the world time it took."""
        simulation = self.simulation
        simulation.engine.progress = self.updates / self.steps
        time = simulation.engine.play(self.updates)
        simulation.time += time
        simulation.episode += 1
        self.updates += 1
        return time

    def tensors(self) -> dict[str, Tensor]:
        return self.simulation.tensors()

    def facts(self) -> dict[str, Any]:
        return super().facts() | self.simulation.facts()

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        self.simulation.restore(tensors, facts)
        self.updates, self.samples = int(facts["updates"]), int(facts["samples"])
        self.stopped = bool(facts["stopped"])
