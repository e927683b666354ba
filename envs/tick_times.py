"""When the agents of a PettingZoo environment tick, for the wrappers that give them clocks."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import gymnasium
import numpy as np

from dnicomm.errors import UserError, nearest
from dnicomm.sim.clock import Clock


@dataclass
class Timer:
    """Where one agent stands in time."""

    clock: Clock
    rng: np.random.Generator
    born: int  # world time of its first appearance, which is time 0 of its clock
    last: int  # its last tick, or its birth
    due: float  # its next tick; inf: none
    action: Any  # that holds; None: none yet
    ticks: int = 0

    def tick(self, time: int, action: Any) -> None:
        """It ticks now, and does ``action`` from now on."""
        self.action = action
        gone_by = self.clock.next(time - self.born, self.rng)
        self.due = math.inf if gone_by is None else self.born + gone_by
        self.last = time
        self.ticks += 1

    def told(self, time: int) -> dict[str, int]:
        """What its agent finds in ``info``."""
        return {"time": time, "elapsed": time - self.last, "ticks": self.ticks}


class TickTimes:
    """The agents' timers in one episode after another.

    Agents draw from separate streams of the seed, keyed by their names.

    Args:
        env: asked for ``possible_agents`` (if it has them) and ``action_space``.
        clocks: one for all agents, or one an agent by name.
        idle_action: one for all, or by agent name; needed where a clock has a phase.

    Raises:
        UserError: ``clocks`` or ``idle_action`` does not fit the agents that are known.
    """

    def __init__(self, env: Any, clocks: Clock | Mapping[str, Clock], idle_action: Any) -> None:
        self.env, self._clocks, self._idle_action = env, clocks, idle_action
        self._seed = np.random.SeedSequence()
        self._episode = 0
        self._timers: dict[Any, Timer] = {}
        if hasattr(env, "possible_agents"):
            self._check_names("clocks", clocks)
            self._check_names("idle_action", idle_action)
            for agent in env.possible_agents:
                if self._clock(agent).first(np.random.default_rng(0)) != 0:
                    self._idle(agent)

    def begin(self, seed: int | None) -> None:
        """An episode begins; without a seed it is the next one of the last seed."""
        if seed is None:
            self._episode += 1
        else:
            self._seed, self._episode = np.random.SeedSequence(seed), 0
        self._timers = {}

    def add(self, agent: Any, time: int) -> None:
        """An agent appears, and idles until its first tick.

        Raises:
            UserError: it has no clock, or needs an idle action that it does not have.
        """
        clock = self._clock(agent)
        key = (self._episode, *str(agent).encode())
        rng = np.random.default_rng(np.random.SeedSequence(self._seed.entropy, spawn_key=key))
        first = clock.first(rng)
        due = math.inf if first is None else time + first
        action = None if first == 0 else self._idle(agent)
        self._timers[agent] = Timer(clock, rng, born=time, last=time, due=due, action=action)

    def __getitem__(self, agent: Any) -> Timer:
        return self._timers[agent]

    def __contains__(self, agent: Any) -> bool:
        return agent in self._timers

    # -- what the user gave --------------------------------------------------------------------

    def _check_names(self, argument: str, by_agent: Any) -> None:
        known = self.env.possible_agents
        for name in by_agent if isinstance(by_agent, Mapping) else ():
            if name not in known:
                hint = nearest(str(name), map(str, known))
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
        space = self.env.action_space(agent)
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


def is_over(agent: Any, terminations: Mapping[Any, Any], truncations: Mapping[Any, Any]) -> bool:
    """Whether a step says that an agent has ended."""
    return bool(terminations.get(agent, False) or truncations.get(agent, False))


def raise_return(agent: Any, time: int) -> NoReturn:
    """Refuse an agent that comes back in the episode in which it has ended.

    Raises:
        UserError: always; PettingZoo has no second life either (its conformance tests say so).
    """
    raise UserError(
        f"agent {agent!r} is in agents again at world time {time}, after it had ended: a second "
        "life in one episode is not supported by clocks around an environment; give it another "
        "name, or keep it alive"
    )
