"""One copy of somebody else's environment, driven by whole units of world time."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
from pettingzoo import ParallelEnv

from dnicomm.envs.infos import OLD_GYM, RESET, STEP, tidy_infos, unpack
from dnicomm.errors import UserError, error_line, user_frame


class Copy(abc.ABC):
    """One environment, driven by whole units of world time.

    ``observations`` and ``infos`` hold the latest of each agent, ``live`` the agents that have not
    ended, ``truncated`` those whom the last step cut off: who has terminated, too, has terminated,
    and who vanishes without a word was cut off. ``reborn`` are those who came back in the last step
    after they had ended.
    """

    def __init__(self, env: Any, where: str) -> None:
        self.env = env
        self.where = where
        try:
            self.possible_agents: list[Any] = list(env.possible_agents)
        except AttributeError:
            raise UserError(
                f"{where} has no possible_agents; agents must be known before an episode begins"
            ) from None
        self.observations: dict[Any, Any] = {}
        self.infos: Mapping[Any, Any] = {}
        self.live: list[Any] = []
        self.truncated: set[Any] = set()
        self.reborn: set[Any] = set()
        self._gone: set[Any] = set()  # have ended in this episode
        self._terminated: set[Any] = set()  # in the last step

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self.observations, self.truncated, self.reborn, self._gone = {}, set(), set(), set()
        self._guard("in reset", lambda: self._reset(seed))

    def step(self, actions: dict[Any, Any], when: str) -> Mapping[Any, Any]:
        """One unit of world time under the actions of all who may act; rewards by agent."""
        if len(actions) == 1:
            when += f", {next(iter(actions))} acting"
        before, gone = self.live, self._gone
        self._terminated = set()
        rewards: Mapping[Any, Any] = self._guard(when, lambda: self._step(actions))
        ended = {*before} - {*self.live}
        self.truncated = ended - self._terminated
        self.reborn = gone & {*self.live}
        self._gone = (gone | ended) - self.reborn
        # who has ended earns no more, whatever is still given under its name
        return {agent: paid for agent, paid in rewards.items() if agent not in gone}

    def refresh(self, agents: Sequence[Any], when: str) -> None:  # noqa: B027 -- most need none
        """Take a new look at ``agents``, those who have to wait for their turns among them."""

    def mask(self, agent: Any) -> Any:
        """What the environment says of the actions that an agent may take now; None: nothing.

        It says so by an ``action_mask`` in the agent's observation or info.
        """
        for told in (self.observations.get(agent), self.infos.get(agent)):
            if isinstance(told, Mapping) and told.get("action_mask") is not None:
                return told["action_mask"]
        return None

    def spaces(self, agent: Any, method: str) -> gymnasium.Space:
        """An agent's space, as ``observation_space`` or ``action_space`` gives it."""
        space: Any = self._guard(
            f"in {method}({agent!r})", lambda: getattr(self.env, method)(agent)
        )
        if not isinstance(space, gymnasium.Space):
            raise UserError(
                f"{self.where}: {method}({agent!r}) is a {type(space).__name__}; it must be a "
                "space of Gymnasium's"
            )
        return space

    def state(self, when: str) -> Any:
        """The environment's own state."""
        return self._guard(when, lambda: self.env.state())

    @abc.abstractmethod
    def acting(self) -> Sequence[Any]:
        """Agents that may act now."""

    @abc.abstractmethod
    def _reset(self, seed: int) -> None: ...

    @abc.abstractmethod
    def _step(self, actions: dict[Any, Any]) -> Mapping[Any, Any]: ...

    def _guard(self, when: str, call: Callable[[], Any]) -> Any:
        """Run the environment's own code; what it raises is its author's to read."""
        try:
            result = call()
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            place = user_frame(error) or ""
            raise UserError(f"{self.where} raised {when}: {error_line(error)}{place}") from error
        unknown = [agent for agent in self.live if agent not in self.possible_agents]
        if unknown:
            raise UserError(
                f"{self.where}: agent {unknown[0]!r} appeared {when} and is not in possible_agents"
            )
        return result


class ParallelCopy(Copy):
    """A parallel environment: everybody who is there acts at each step."""

    def _reset(self, seed: int) -> None:
        observations, infos = unpack(self.where, "reset", self.env.reset(seed=seed), RESET)
        self.infos = tidy_infos(infos)
        self.observations.update(observations)
        self.live = list(self.env.agents)

    def _step(self, actions: dict[Any, Any]) -> Mapping[Any, Any]:
        observations, rewards, terminations, truncations, infos = unpack(
            self.where, "step", self.env.step(actions), STEP
        )
        self.infos = tidy_infos(infos)
        self.observations.update(observations)
        self._terminated = {*_true(terminations)}
        over = self._terminated | {*_true(truncations)}
        self.live = [agent for agent in self.env.agents if agent not in over]
        return rewards

    def acting(self) -> Sequence[Any]:
        return self.live


class TurnsCopy(Copy):
    """An environment in turns: a unit of world time is the turn of one agent."""

    def _reset(self, seed: int) -> None:
        self.env.reset(seed=seed)
        self._settle({})

    def _step(self, actions: dict[Any, Any]) -> Mapping[Any, Any]:
        self.env.step(actions[self.env.agent_selection])
        rewards: dict[Any, float] = {}
        self._settle(rewards)
        return rewards

    def _settle(self, rewards: dict[Any, float]) -> None:
        """Give agents that have ended their empty turns, and look at the world."""
        while True:
            for agent, reward in self.env.rewards.items():
                rewards[agent] = rewards.get(agent, 0) + reward
            if not self.env.agents:
                break
            agent = self.env.agent_selection
            self.observations[agent] = self.env.observe(agent)
            if not (self.env.terminations[agent] or self.env.truncations[agent]):
                break
            if self.env.terminations[agent]:
                self._terminated.add(agent)
            self.env.step(None)
        self.live, self.infos = list(self.env.agents), tidy_infos(self.env.infos)

    def acting(self) -> Sequence[Any]:
        return [self.env.agent_selection] if self.live else []

    def refresh(self, agents: Sequence[Any], when: str) -> None:
        waiting = [agent for agent in agents if agent in self.live and agent not in self.acting()]
        seen = self._guard(
            f"in observe {when}", lambda: {agent: self.env.observe(agent) for agent in waiting}
        )
        self.observations.update(seen)


class SoloEnv(ParallelEnv):
    """A Gymnasium environment in PettingZoo's clothes."""

    possible_agents = ["agent_0"]  # noqa: RUF012 -- never written to

    def __init__(self, env: gymnasium.Env) -> None:
        self.env = env
        self.agents: list[str] = []

    def observation_space(self, agent: str) -> gymnasium.Space:
        return self.env.observation_space

    def action_space(self, agent: str) -> gymnasium.Space:
        return self.env.action_space

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        found = self.env.reset(seed=seed, options=options)
        observation, info = unpack("", "reset", found, "observation, info", old=OLD_GYM)
        self.agents = list(self.possible_agents)
        return {"agent_0": observation}, {"agent_0": info}

    def step(self, actions: dict[str, Any]) -> Any:
        results = unpack(
            "", "step", self.env.step(actions["agent_0"]),
            "observation, reward, terminated, truncated, info", old=OLD_GYM,
        )  # fmt: skip
        if results[2] or results[3]:
            self.agents = []
        return tuple({"agent_0": result} for result in results)

    def close(self) -> None:
        self.env.close()


def _true(flags: Mapping[Any, Any]) -> list[Any]:
    return [agent for agent, flag in flags.items() if flag]
