"""Any parallel PettingZoo environment as one in which only agents that are due can act."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pettingzoo import ParallelEnv
from pettingzoo.utils.wrappers import BaseParallelWrapper

from dnicomm.envs.infos import RESET, STEP, reward_number, tidy_infos, unpack
from dnicomm.envs.tick_times import TickTimes, is_over, raise_return
from dnicomm.errors import UserError
from dnicomm.sim.clock import Clock


def clocked_parallel(
    parallel_env: ParallelEnv, clocks: Clock | Mapping[str, Clock], *, idle_action: Any = None
) -> ParallelEnv:
    """Ask everybody at each unit of world time, and let those act who are due.

    The same as :func:`~dnicomm.envs.clocked` for learners that want an action of everybody at each
    step: from the same seed agents tick at the same times. The action of an agent that is not due
    is ignored, and its last one holds (zero-order hold). What counts is known beforehand:

    - ``infos[agent]["due"]``: whether the action given next counts;
    - ``time`` (world time, steps since reset), ``elapsed`` (world time since the agent's last
      tick, or since it appeared) and ``ticks`` (its ticks before this time) as in ``clocked``,
      beside what the environment put there.

    Rewards belong to the interval in which an agent's action held: they add up, and are given at
    the step that leads to its next tick or its end. At all others the reward is 0. So from one due
    step to the next an agent makes a semi-Markov transition of length ``elapsed``, and a learner
    that discounts wants ``gamma ** elapsed``; one that knows nothing of ``due`` gets every reward
    too, later. What is left when an episode is abandoned by ``reset`` is lost.

    Observations, terminations and truncations are the environment's, at each step. An agent that
    vanishes without a word is truncated. A clock runs from its agent's first appearance. An agent
    that is due and has no entry in ``step``'s actions goes on with the action it has.

    Args:
        parallel_env: what is wrapped; all else is passed through to it.
        clocks: one for all agents, or one an agent by name; see ``clocked`` for their streams.
        idle_action: what an agent does before its first tick, one for all or by agent name;
            needed where a clock has a phase.

    Raises:
        UserError: ``clocks`` or ``idle_action`` does not fit the agents; also at reset or step,
            for agents unknown before, and at step, for one that is due first and gives no action,
            or that comes back after it has ended.
    """
    return ActionHoldEnv(parallel_env, clocks, idle_action)


class ActionHoldEnv(BaseParallelWrapper):
    """What :func:`clocked_parallel` returns."""

    def __init__(
        self, env: ParallelEnv, clocks: Clock | Mapping[str, Clock], idle_action: Any = None
    ) -> None:
        super().__init__(env)
        self._timers = TickTimes(env, clocks, idle_action)
        self._owed: dict[Any, float] = {}  # rewards since the last tick, of who is there
        self._ended: set[Any] = set()
        self.time = 0

    @property
    def agents(self) -> list[Any]:
        """Agents that have not ended."""
        return [agent for agent in self.env.agents if agent not in self._ended]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[Any, Any], dict[Any, dict[str, Any]]]:
        """Begin an episode; without a seed the next one of the last seed."""
        self._timers.begin(seed)
        found = self.env.reset(seed=seed, options=options)
        observations, infos = unpack(str(self.env), "reset", found, RESET)
        self.time, self._ended, self._owed = 0, set(), {}
        for agent in self.env.agents:
            self._add(agent)
        return observations, self._told(infos)

    def step(self, actions: dict[Any, Any]) -> tuple[dict[Any, Any], ...]:
        """One unit of world time; actions of agents that are not due are ignored."""
        present = self.agents
        for agent in present:
            timer = self._timers[agent]
            if timer.due > self.time:
                continue
            action = actions.get(agent)
            if action is None:
                action = timer.action
            if action is None:
                raise UserError(
                    f"step: agent {agent!r} is due at world time {self.time} for the first time "
                    "and has no action"
                )
            timer.tick(self.time, action)
        found = self.env.step({agent: self._timers[agent].action for agent in present})
        parts = unpack(str(self.env), "step", found, STEP)
        observations, rewards, terminations, truncations, infos = parts
        self.time += 1
        for agent in self.env.agents:
            if agent not in self._timers:
                self._add(agent)
            elif agent not in self._owed and not is_over(agent, terminations, truncations):
                raise_return(agent, self.time)
        terminated, truncated, paid = {}, {}, {}
        for agent in list(self._owed):
            self._owed[agent] += reward_number(
                rewards.get(agent, 0), agent, f"at world time {self.time}"
            )
            terminated[agent] = bool(terminations.get(agent, False))
            vanished = agent not in self.env.agents and not terminated[agent]
            truncated[agent] = bool(truncations.get(agent, False)) or vanished
            over = terminated[agent] or truncated[agent]
            paid[agent] = 0.0
            if over or self._timers[agent].due <= self.time:
                paid[agent], self._owed[agent] = self._owed[agent], 0.0
            if over:
                self._ended.add(agent)
                del self._owed[agent]
        return observations, paid, terminated, truncated, self._told(infos)

    def _add(self, agent: Any) -> None:
        self._timers.add(agent, self.time)
        self._owed[agent] = 0.0

    def _told(self, given: Any) -> dict[Any, dict[str, Any]]:
        told = {}
        infos = tidy_infos(given, self._owed)
        for agent in infos:
            if agent not in self._timers:  # not an agent, but something that all may know
                told[agent] = infos[agent]
                continue
            timer = self._timers[agent]
            due = agent in self._owed and timer.due <= self.time
            told[agent] = {**infos.get(agent, {}), **timer.told(self.time), "due": due}
        return told

    def __str__(self) -> str:
        return str(self.env)
