"""Two agents with clocks of their own: one sees a digit, the other names it."""

from dnicomm.agents import FeedForward
from dnicomm.envs import Relay
from dnicomm.sim import Delay, PeriodicClock, PoissonClock, Simulation

result = Simulation(
    env=Relay(num_agents=2),
    agent=FeedForward,
    clocks={"agent_0": PeriodicClock(period=2), "agent_1": PoissonClock(rate=0.5)},
    channel=Delay(0, 2),
    num_worlds=64,
    seed=0,
).run(steps=800)
print(f"digits never trained on: {result.metrics['accuracy']:.1%} right")
