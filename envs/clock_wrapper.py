"""Any parallel PettingZoo environment as one whose agents act at times of their own."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.wrappers import OrderEnforcingWrapper

from dnicomm.errors import UserError, nearest
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
            for agents unknown before.
    """
    return OrderEnforcingWrapper(ClockedEnv(parallel_env, clocks, idle_action))


@dataclass
class _Timer:
    """Where one agent stands in time."""

    clock: Clock
    rng: np.random.Generator
    born: int  # world time of its first appearance, which is time 0 of its clock
    last: int  # its last tick, or its birth
    due: float  # its next tick; inf: none
    ticks: int = 0


class ClockedEnv(AECEnv):
    """What :func:`clocked` returns, without PettingZoo's checks of the order of calls."""

    def __init__(
        self, env: ParallelEnv, clocks: Clock | Mapping[str, Clock], idle_action: Any = None
    ) -> None:
        super().__init__()
        self.env = env
        self.metadata = {**getattr(env, "metadata", {}), "is_parallelizable": False}
        self._clocks = clocks
        self._idle_action = idle_action
        self._seed = np.random.SeedSequence()
        self._episode = 0
        if hasattr(env, "possible_agents"):
            self.possible_agents = list(env.possible_agents)
            self._check_names("clocks", clocks)
            self._check_names("idle_action", idle_action)
            for agent in self.possible_agents:
                if self._clock(agent).first(np.random.default_rng(0)) != 0:
                    self._idle(agent)

    # -- the two calls that move time ----------------------------------------------------------

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin an episode; see :func:`clocked` for what ``seed`` sets."""
        if seed is None:
            self._episode += 1
        else:
            self._seed, self._episode = np.random.SeedSequence(seed), 0
        observations, infos = self.env.reset(seed=seed, options=options)
        self.time = 0
        self.agents: list[Any] = []
        self.rewards: dict[Any, float] = {}
        self._cumulative_rewards: dict[Any, float] = {}
        self.terminations: dict[Any, bool] = {}
        self.truncations: dict[Any, bool] = {}
        self._timers: dict[Any, _Timer] = {}
        self._actions: dict[Any, Any] = {}
        self._observations = dict(observations)
        self._env_infos = dict(infos)
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
            self._actions[agent] = action
            timer = self._timers[agent]
            gone_by = timer.clock.next(self.time - timer.born, timer.rng)
            timer.due = math.inf if gone_by is None else timer.born + gone_by
            timer.last = self.time
            timer.ticks += 1
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
            agent: {
                **self._env_infos.get(agent, {}),
                "time": self.time,
                "elapsed": self.time - self._timers[agent].last,
                "ticks": self._timers[agent].ticks,
            }
            for agent in self.agents
        }

    def _step_world(self) -> None:
        """One unit of world time under the actions that hold."""
        observations, rewards, terminations, truncations, self._env_infos = self.env.step(
            {agent: self._actions[agent] for agent in self.env.agents}
        )
        self.time += 1
        self._observations.update(observations)
        for agent in self.env.agents:
            if agent not in self._timers:
                self._add(agent)
        for agent in self.agents:
            self.rewards[agent] += float(rewards.get(agent, 0))
            self.terminations[agent] = bool(terminations.get(agent, False))
            # An agent that vanishes without a word has its dead turn like any other.
            vanished = agent not in self.env.agents and not self.terminations[agent]
            self.truncations[agent] = bool(truncations.get(agent, False)) or vanished

    def _add(self, agent: Any) -> None:
        """Take in an agent that the world shows for the first time."""
        clock = self._clock(agent)
        key = (self._episode, *str(agent).encode())
        rng = np.random.default_rng(np.random.SeedSequence(self._seed.entropy, spawn_key=key))
        first = clock.first(rng)
        if first != 0:
            self._actions[agent] = self._idle(agent)
        due = math.inf if first is None else self.time + first
        self._timers[agent] = _Timer(clock, rng, born=self.time, last=self.time, due=due)
        self.agents.append(agent)
        self.rewards[agent] = 0
        self._cumulative_rewards[agent] = 0
        self.terminations[agent] = False
        self.truncations[agent] = False

    # -- what the user gave --------------------------------------------------------------------

    def _check_names(self, argument: str, by_agent: Any) -> None:
        for name in by_agent if isinstance(by_agent, Mapping) else ():
            if name not in self.possible_agents:
                hint = nearest(str(name), map(str, self.possible_agents))
                raise UserError(f"{argument}: unknown agent {name!r}.{hint}")

    def _clock(self, agent: Any) -> Clock:
        clock = self._clocks
        if isinstance(clock, Mapping):
            if agent not in clock:
                hint = nearest(str(agent), map(str, clock))
                raise UserError(f"clocks: no clock for agent {agent!r}.{hint}")
            clock = clock[agent]
        if not isinstance(clock, Clock):
            raise UserError(f"clocks: {clock!r} for agent {agent!r} is not a Clock")
        return clock

    def _idle(self, agent: Any) -> Any:
        action = self._idle_action
        if isinstance(action, Mapping):
            action = action.get(agent)
        space = self.action_space(agent)
        if action is None:
            raise UserError(
                f"idle_action: agent {agent!r} does not tick at its time 0 and needs one until "
                f"its first tick, from {space}"
            )
        if isinstance(space, gymnasium.spaces.Box):
            with contextlib.suppress(TypeError, ValueError):  # else it is no action, as said below
                action = np.asarray(action, dtype=space.dtype)
        if not space.contains(action):
            raise UserError(
                f"idle_action={action!r}: not an action of agent {agent!r}; allowed: {space}"
            )
        return action

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
