"""Agents with clocks of their own, and a channel of one's own that fails for a while at a time.

A digit is passed on by three agents: the first ticks every third unit of time, the second at
random, the third in bursts. In bad weather nothing arrives, and weather lasts.
"""

from dataclasses import dataclass

import numpy as np

from dnicomm.agents import FeedForward
from dnicomm.envs import Relay
from dnicomm.sim import BurstyClock, Channel, Delay, PeriodicClock, PoissonClock, Series, Simulation


@dataclass(frozen=True)
class Weather(Channel):
    """A link that is good or bad, and changes with these probabilities (Gilbert, 1960)."""

    worsens: float = 0.1
    improves: float = 0.3

    def lost(self, rng, shape):
        draws = rng.random(shape)  # [times, worlds]
        bad = np.zeros(shape, dtype=bool)
        for t in range(1, len(bad)):
            bad[t] = np.where(bad[t - 1], draws[t] >= self.improves, draws[t] < self.worsens)
        return bad


result = Simulation(
    env=Relay(num_agents=3),
    agent=FeedForward,
    clocks={
        "agent_0": PeriodicClock(period=3),
        "agent_1": PoissonClock(rate=0.6),
        "agent_2": BurstyClock(burst=4, silence=6),
    },
    channel=Series((Delay(0, 2), Weather())),
    num_worlds=64,
    seed=0,
).run(steps=800)
for name, figures in result.summary["channels"].items():
    print(f"{name}: read {figures['share_read']:.0%}, age {figures['age']:.1f}, "
          f"cosine {figures['cosine']:.2f}")  # fmt: skip
print(f"digits never trained on: {result.metrics['accuracy']:.1%} right")
