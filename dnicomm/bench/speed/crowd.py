"""Many agents at irregular times: what population figures are about.

Independent recurrent agents come to a consensus on a random regular graph whose links come and go,
each learning at every tick; as in ``recipe=consensus``, with wider messages.
"""

from __future__ import annotations

from dataclasses import dataclass

from dnicomm.agents import Recurrent
from dnicomm.core import Adam, GradientUtility
from dnicomm.envs import Consensus
from dnicomm.sim import AgentSpec, PoissonClock, Simulation, UtilitySettings


@dataclass(frozen=True)
class Crowd:
    """What a run of many agents is made of.

    Args:
        num_agents: N.
        degree: neighbours of each agent, all the others where they are fewer; its channels in, and
            as many out.
        up: probability that a link is there, for each link and unit of time.
        num_worlds: B.
        width: units of each agent's hidden layer and state.
        message_size: D.
        rate: ticks of each agent a unit of world time.
        window: world time between updates.
        horizon: world time of an episode.
        seed: of the graph and the run.
    """

    num_agents: int = 100
    degree: int = 4
    up: float = 0.8
    num_worlds: int = 16
    width: int = 32
    message_size: int = 32
    rate: float = 0.5
    window: int = 1
    horizon: int = 50
    seed: int = 0

    def env(self) -> Consensus:
        degree = min(self.degree, self.num_agents - 1)
        return Consensus(self.num_agents, degree, self.up, self.horizon, self.seed)

    def simulation(self) -> Simulation:
        """The run, every update done, with synthetic feedback."""
        width = self.width

        def agent(spec: AgentSpec) -> Recurrent:
            return Recurrent(spec, width)

        return Simulation(
            env=self.env(),
            agent=agent,
            clock=PoissonClock(self.rate),
            message_size=self.message_size,
            normalise=False,
            num_worlds=self.num_worlds,
            utility=UtilitySettings(GradientUtility, Adam(3e-3), context=()),
            feedback="synthetic",
            window=self.window,
            seed=self.seed,
        )
