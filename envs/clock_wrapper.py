"""Any parallel PettingZoo environment as one whose agents act at times of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.wrappers import OrderEnforcingWrapper

from dnicomm.envs.infos import RESET, STEP, reward_number, tidy_infos, unpack
from dnicomm.envs.tick_times import TickTimes, is_over, raise_return
from dnicomm.errors import UserError
from dnicomm.sim.clock import Clock

_LONGEST_SILENCE = 100_000  # world time without any further tick before a world counts as endless


def clocked(
    parallel_env: ParallelEnv, clocks: Clock | Mapping[str, Clock], *, idle_action: Any = None
) -> AECEnv:
    """Ask each agent of ``parallel_env`` for an action at its own ticks only.

    ``agent_selection`` is the agent due next, and the world steps as soon as everybody due has
    acted. Agents due at the same time see the same world. In between, the last action of an agent
    holds (zero-order hold): the world gets it again at each step.

    What an agent finds in ``last()`` at its tick:

    - its latest observation;
    - the plain sum of the rewards of all world steps since its last tick;
    - ``info``: what the environment put there, and ``time`` (world time, steps since reset),
      ``elapsed`` (world time since its last tick, or since it appeared) and ``ticks`` (its ticks
      before this one). A discounted learner wants ``gamma ** elapsed``.

    When an agent ends, the world stands still until it has had its ``step(None)``. A clock runs
    from its agent's first appearance, so that agents which appear later tick at once. Once all
    clocks have run out (:class:`~dnicomm.sim.clock.TraceClock`), the world runs on to its end.

    Args:
        parallel_env: what is wrapped; its ``seed``, ``options``, ``state()``, ``render()`` and
            ``close()`` are passed through.
        clocks: one for all agents, or one an agent by name. Agents draw from separate streams of
            ``reset(seed)``, keyed by their names: one agent more changes nobody else's ticks.
            ``reset()`` without a seed goes on to the next episode of the last seed.
        idle_action: what an agent does before its first tick, one for all or by agent name;
            needed where a clock has a phase.

    Raises:
        UserError: ``clocks`` or ``idle_action`` does not fit the agents; also at reset or step,
            for agents unknown before, and at step for one that comes back after it has ended.
    """
    return OrderEnforcingWrapper(ClockedEnv(parallel_env, clocks, idle_action))


class ClockedEnv(AECEnv):
    """What :func:`clocked` returns, without PettingZoo's checks of the order of calls."""

    def __init__(
        self, env: ParallelEnv, clocks: Clock | Mapping[str, Clock], idle_action: Any = None
    ) -> None:
        super().__init__()
        self.env = env
        self.metadata = {**getattr(env, "metadata", {}), "is_parallelizable": False}
        if hasattr(env, "possible_agents"):
            self.possible_agents = list(env.possible_agents)
        self._timers = TickTimes(env, clocks, idle_action)

    # -- the two calls that move time ----------------------------------------------------------

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin an episode; see :func:`clocked` for what ``seed`` sets."""
        self._timers.begin(seed)
        found = self.env.reset(seed=seed, options=options)
        observations, infos = unpack(str(self.env), "reset", found, RESET)
        self.time = 0
        self.agents: list[Any] = []
        self.rewards: dict[Any, float] = {}
        self._cumulative_rewards: dict[Any, float] = {}
        self.terminations: dict[Any, bool] = {}
        self.truncations: dict[Any, bool] = {}
        self._observations = dict(observations)
        self._env_infos = tidy_infos(infos)
        for agent in self.env.agents:
            self._add(agent)
        self._advance()
        # Where everybody has a phase, the world has moved already. PettingZoo counts rewards from
        # the first step() on, so that these wait for it.
        self._early, self.rewards = self.rewards, dict.fromkeys(self.agents, 0.0)

    def step(self, action: Any) -> None:
        """Set the action of ``agent_selection`` and go on to the next agent due."""
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
        else:
            self._clear_rewards()
            self._cumulative_rewards[agent] = 0
            self._timers[agent].tick(self.time, action)
        for agent in self.agents:
            self.rewards[agent] += self._early.pop(agent, 0.0)
        self._advance()
        self._accumulate_rewards()

    def _advance(self) -> None:
        """Step the world until an agent has ended or is due, and select that agent."""
        end_of_patience = self.time + _LONGEST_SILENCE
        while self.agents:
            ended = [a for a in self.agents if self.terminations[a] or self.truncations[a]]
            following = min(self.agents, key=lambda a: self._timers[a].due)  # ties: as in agents
            due = self._timers[following].due
            if ended or due <= self.time:
                self.agent_selection = ended[0] if ended else following
                break
            if due == math.inf and self.time >= end_of_patience:
                raise UserError(
                    f"clocks: no agent ticks after world time {end_of_patience - _LONGEST_SILENCE}"
                    f" and {self} does not end by itself; give it an end or clocks that go on"
                )
            self._step_world()
        self.infos = {
            agent: {**self._env_infos.get(agent, {}), **self._timers[agent].told(self.time)}
            for agent in self.agents
        }

    def _step_world(self) -> None:
        """One unit of world time under the actions that hold."""
        found = self.env.step({agent: self._timers[agent].action for agent in self.env.agents})
        parts = unpack(str(self.env), "step", found, STEP)
        observations, rewards, terminations, truncations, infos = parts
        self._env_infos = tidy_infos(infos)
        self.time += 1
        self._observations.update(observations)
        for agent in self.env.agents:
            if agent not in self._timers:
                self._add(agent)
            elif agent not in self.agents and not is_over(agent, terminations, truncations):
                raise_return(agent, self.time)
        for agent in self.agents:
            self.rewards[agent] += reward_number(
                rewards.get(agent, 0), agent, f"at world time {self.time}"
            )
            self.terminations[agent] = bool(terminations.get(agent, False))
            # An agent that vanishes without a word has its dead turn like any other.
            vanished = agent not in self.env.agents and not self.terminations[agent]
            self.truncations[agent] = bool(truncations.get(agent, False)) or vanished

    def _add(self, agent: Any) -> None:
        """Take in an agent that the world shows for the first time."""
        self._timers.add(agent, self.time)
        self.agents.append(agent)
        self.rewards[agent] = 0
        self._cumulative_rewards[agent] = 0
        self.terminations[agent] = False
        self.truncations[agent] = False

    # -- passed through ------------------------------------------------------------------------

    def observe(self, agent: Any) -> Any:
        return self._observations[agent]

    def observation_space(self, agent: Any) -> gymnasium.Space:
        return self.env.observation_space(agent)

    def action_space(self, agent: Any) -> gymnasium.Space:
        return self.env.action_space(agent)

    @property
    def state_space(self) -> gymnasium.Space:
        return self.env.state_space

    def state(self) -> Any:
        return self.env.state()

    @property
    def render_mode(self) -> str | None:
        return getattr(self.env, "render_mode", None)

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()

    @property
    def unwrapped(self) -> Any:
        return self.env.unwrapped

    def __str__(self) -> str:
        return str(self.env)
