"""An experiment that the simulator's engine runs: an update is an episode."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from torch import Tensor

from dnicomm.bench.experiment import Experiment
from dnicomm.sim import Simulation
from dnicomm.sim.recording import SPAN, Recorded, Recorder


class Simulated(Experiment):
    """An experiment around a ``simulation``; a subclass builds it."""

    simulation: Simulation
    recorder: Recorder | None = None
    recorded_from: int  # update

    def record_before(self, update: int) -> None:
        self.recorder = Recorder(self.simulation.engine)
        self.recorded_from = update - max(1, SPAN // self.simulation.world.horizon)

    def recorded(self) -> Recorded | None:
        recorder, self.recorder = self.recorder, None
        return None if recorder is None else recorder.take()

    def play(self) -> int:
        """One episode; the world time it took."""
        simulation, recorder = self.simulation, self.recorder
        simulation.engine.progress = self.updates / self.steps
        looked_at = recorder is not None and self.updates >= self.recorded_from
        began = simulation.time
        with recorder.recording(began) if recorder and looked_at else nullcontext():
            time = simulation.engine.play(self.updates)
        simulation.time += time
        simulation.episode += 1
        self.updates += 1
        return time

    def close(self) -> None:
        self.simulation.close()

    def tensors(self) -> dict[str, Tensor]:
        return self.simulation.tensors()

    def facts(self) -> dict[str, Any]:
        return super().facts() | self.simulation.facts()

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        self.simulation.restore(tensors, facts)
        self.updates, self.samples = int(facts["updates"]), int(facts["samples"])
        self.stopped = bool(facts["stopped"])
