"""Many agents: agent-ticks a second, beside the loop of modules and beside the floor."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dnicomm.bench.speed.crowd import Crowd
from dnicomm.bench.speed.loop import Loop
from dnicomm.bench.speed.measuring import Rates, Spread, ratio
from dnicomm.bench.speed.measuring import rates as measure_rates
from dnicomm.bench.speed.operations import measure_operations
from dnicomm.bench.speed.step import ADAM_BYTES
from dnicomm.bench.stopwatch import stopwatch
from dnicomm.sim import Simulation
from dnicomm.sim.profile import StageTimer

# of a parameter beside Adam's: gathered (read, written), read forward and backward, its gradient
# written once
GATHER_BYTES, PASS_BYTES = 8, 12
CORE = ("tick", "backward", "optimiser")


@dataclass(frozen=True)
class AgentsRow:
    """One line of the table; figures are agent-ticks a second, each for its B worlds."""

    agents: int
    ours: Spread
    loop: Spread
    times_loop: Spread
    floor: Spread
    times_floor: Spread  # how many times the floor's time a tick takes
    shares: dict[str, float]  # of the time, by stage
    operations: dict[str, float]  # seconds a tick, by kind; empty where threads share them

    @property
    def outside(self) -> float:
        """Share of the time in no tick, backward pass or optimiser."""
        return 1 - sum(self.shares[name] for name in CORE)


def measure_agents(rates: Rates, crowd: Crowd, rounds: int, loop_agents: int) -> AgentsRow:
    """A crowd in turns with a loop over at most ``loop_agents`` of the same agents.

    What an agent costs in the loop does not depend on how many there are.
    """
    simulation = crowd.simulation()
    few = Crowd(**{**vars(crowd), "num_agents": min(crowd.num_agents, loop_agents)})
    loop = Loop(few)
    play_episode(simulation, 0)
    for _ in range(3):
        loop.step()
    ours, theirs, floors, alone = [], [], [], torch.get_num_threads() == 1
    size = rates.nearest(floor_bytes(simulation, crowd)[1])
    timer = StageTimer(stopwatch())
    for number in range(rounds):
        with timer.watch():
            ours.append(1 / play_episode(simulation, number + 1))
        theirs.append(1 / _play_loop(loop))
        # the machine's rates at this very time: others use it too
        floors.append(1 / floor_seconds(measure_rates(1, size, size), simulation, crowd))
    return AgentsRow(
        crowd.num_agents,
        Spread.of(ours),
        Spread.of(theirs),
        ratio(ours, theirs),
        Spread.of(floors),
        ratio(floors, ours),
        timer.shares(),
        measure_operations(simulation, crowd, rounds + 1) if alone else {},
    )


def play_episode(simulation: Simulation, episode: int) -> float:
    """Seconds an agent-tick in one episode."""
    clock = stopwatch()
    before, start = simulation.agent_ticks(), clock()
    simulation.engine.play(episode)
    seconds = clock() - start
    return seconds / (simulation.agent_ticks() - before)


def _play_loop(loop: Loop) -> float:
    clock = stopwatch()
    before, start = loop.ticks, clock()
    while loop.ticks == before or clock() - start < 0.3:
        loop.step()
    return (clock() - start) / (loop.ticks - before)


def floor_seconds(rates: Rates, simulation: Simulation, crowd: Crowd) -> float:
    """The least time of an agent-tick: its own parameters' passes and those of K utility models.

    Each parameter of an agent takes part in three products with B rows, each of a utility model
    too: two for its estimate and its estimate again when it is fitted, one for its gradient.
    """
    moved, footprint = floor_bytes(simulation, crowd)
    return rates.seconds(3 * crowd.num_worlds * _numbers(simulation), moved, footprint)


def floor_bytes(simulation: Simulation, crowd: Crowd) -> tuple[float, float]:
    """Bytes that an agent-tick moves, and that all of one time do."""
    moved = (ADAM_BYTES + GATHER_BYTES + PASS_BYTES) * _numbers(simulation)
    return moved, moved * max(crowd.num_agents * crowd.rate, 1)


def _numbers(simulation: Simulation) -> int:
    """Parameters of an agent and of the utility models of its channels."""
    (population,) = simulation.populations
    utility = 0
    if population.interface is not None:
        utility = population.interface.utilities.parameters.shape[1] * population.spec.num_inputs
    return population.agents.parameters.shape[1] + utility
