"""A message channel for any PettingZoo environment, for learners that know nothing of gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.wrappers import BaseParallelWrapper, BaseWrapper

from dnicomm.envs.infos import RESET, STEP, tidy_infos, unpack
from dnicomm.envs.message_spaces import Hearing, Messages, Speech
from dnicomm.envs.post import Post
from dnicomm.errors import UserError
from dnicomm.sim.channel import Channel
from dnicomm.sim.topology import Complete, Topology, check_edges


def channelled(
    env: ParallelEnv | AECEnv,
    channel: Channel | None = None,
    topology: Topology | None = None,
    *,
    size: int | None = None,
    symbols: int | None = None,
    flat: bool = True,
) -> Any:
    """Let the agents of ``env`` talk: by a part of their actions, heard in their observations.

    The environment stays of its kind, parallel or in turns. An agent that nobody hears acts as
    before, and one that hears nobody sees what it saw before. To all others

    - an action is the environment's and a message: with ``flat``, a ``MultiDiscrete`` of discrete
      actions and a symbol (the last number), or a ``Box`` of continuous actions and a vector (the
      last ``size`` numbers, clipped to [-1, 1]);
    - an observation is the environment's, the messages of all whom it hears (zeros where there is
      none; symbols are one-hot), and a 1 for each that is there: with ``flat``, one vector.

    Without ``flat`` they are ``{"action", "message"}`` and ``{"observation", "messages" [K, D],
    "heard" [K]}``, for learners with dictionaries, for pictures, and for discrete actions with
    vectors. If the environment's observations have an ``action_mask``, ``infos`` have one that fits
    the new actions.

    Messages travel as in a simulation: one sent at time ``t`` is heard at ``t + 1`` plus the
    channel's delay, unless it is lost; the newest that has arrived stays until the next. World time
    is the number of steps; in turns it is ``infos[agent]["time"]`` where the environment says so in
    whole numbers (:func:`~dnicomm.envs.clocked`), else the number of turns. An agent that has ended
    says nothing. Where ``infos[agent]["due"]`` is False (:func:`~dnicomm.envs.clocked_parallel`),
    an agent's message does not count, as its action does not. Everything random follows from
    ``reset(seed)``; ``reset()`` goes on to the next episode of the last seed. ``state()`` is the
    environment's, without the mail.

    Args:
        env: the environment; its agents must be known beforehand (``possible_agents``).
        channel: what happens to messages; None: they arrive as they are sent.
        topology: who hears whom; None: everybody everybody else.
        size: numbers in a message; or
        symbols: how many symbols there are, of which a message is one.
        flat: whether actions and observations are one array each.

    Raises:
        UserError: something does not fit; names the agent and its space. At step: a message or an
            action that is none.
    """
    if not isinstance(env, ParallelEnv | AECEnv):
        raise UserError(
            f"channelled: a {type(env).__name__}; allowed: a PettingZoo ParallelEnv or AECEnv"
        )
    talk = _Talk(env, channel or Channel(), topology or Complete(), Messages(size, symbols), flat)
    return ParallelTalk(env, talk) if isinstance(env, ParallelEnv) else TurnsTalk(env, talk)


class _Talk:
    """Who says and hears what, in either kind of environment."""

    def __init__(
        self, env: Any, channel: Channel, topology: Topology, messages: Messages, flat: bool
    ) -> None:
        try:
            agents = list(env.possible_agents)
        except AttributeError:
            raise UserError(
                f"channelled: {env} has no possible_agents; agents must be known before an episode "
                "begins"
            ) from None
        if channel.cost:
            raise UserError(
                f"channel.cost={channel.cost}: an agent speaks at each of its turns here, so that "
                "a cost would not depend on what it does"
            )
        names = [str(agent) for agent in agents]
        self.post = Post(check_edges(topology.edges(names), names), channel, messages.width)
        bounded = not channel.distorts
        self.speech: dict[Any, Speech] = {}
        self.hearing: dict[Any, Hearing] = {}
        for agent in agents:
            if self.post.speaks(str(agent)):
                self.speech[agent] = Speech(env.action_space(agent), messages, flat, agent)
            senders = len(self.post.senders(str(agent)))
            if senders:
                own = env.observation_space(agent)
                self.hearing[agent] = Hearing(own, senders, messages, bounded, flat, agent)

    def send(self, agent: Any, action: Any, time: int, counts: bool) -> Any:
        """Post what an agent says, if it counts; the environment's part of its action."""
        if agent not in self.speech:
            return action
        own, message = self.speech[agent].split(action, time)
        if counts:
            self.post.send(str(agent), message, time)
        return own

    def heard(self, agent: Any, observation: Any, time: int) -> Any:
        """What an agent observes."""
        if agent not in self.hearing:
            return observation
        return self.hearing[agent].join(observation, *self.post.inbox(str(agent), time))

    def told(self, agent: Any, observation: Any, info: Mapping[str, Any]) -> Mapping[str, Any]:
        """The agent's info, with a mask for its new actions."""
        if agent not in self.speech or not isinstance(observation, Mapping | None):
            return info
        mask = info.get("action_mask", (observation or {}).get("action_mask"))
        return info if mask is None else {**info, "action_mask": self.speech[agent].mask(mask)}

    def action_space(self, agent: Any, own: gymnasium.Space) -> gymnasium.Space:
        return self.speech[agent].space if agent in self.speech else own

    def observation_space(self, agent: Any, own: gymnasium.Space) -> gymnasium.Space:
        return self.hearing[agent].space if agent in self.hearing else own


class ParallelTalk(BaseParallelWrapper):
    """What :func:`channelled` returns for a parallel environment."""

    def __init__(self, env: ParallelEnv, talk: _Talk) -> None:
        super().__init__(env)
        self._talk = talk
        self._time = 0
        self._due: dict[Any, bool] = {}

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[Any, Any], dict[Any, dict[str, Any]]]:
        self._talk.post.begin(seed)
        found = self.env.reset(seed=seed, options=options)
        observations, infos = unpack(str(self.env), "reset", found, RESET)
        self._time = 0
        return self._seen(observations, infos)

    def step(self, actions: dict[Any, Any]) -> tuple[dict[Any, Any], ...]:
        there = set(self.env.agents)
        own = {
            agent: self._talk.send(
                agent, action, self._time, agent in there and self._due.get(agent, True)
            )
            for agent, action in actions.items()
        }
        parts = unpack(str(self.env), "step", self.env.step(own), STEP)
        observations, rewards, terminations, truncations, infos = parts
        self._time += 1
        observations, infos = self._seen(observations, infos)
        return observations, rewards, terminations, truncations, infos

    def _seen(self, observations: Mapping[Any, Any], given: Any) -> Any:
        infos = tidy_infos(given)
        self._due = {agent: bool(info.get("due", True)) for agent, info in infos.items()}
        told = {a: self._talk.told(a, observations.get(a), info) for a, info in infos.items()}
        return {a: self._talk.heard(a, seen, self._time) for a, seen in observations.items()}, told

    def observation_space(self, agent: Any) -> gymnasium.Space:
        return self._talk.observation_space(agent, self.env.observation_space(agent))

    def action_space(self, agent: Any) -> gymnasium.Space:
        return self._talk.action_space(agent, self.env.action_space(agent))

    def __str__(self) -> str:
        return str(self.env)


class TurnsTalk(BaseWrapper):
    """What :func:`channelled` returns for an environment in turns."""

    def __init__(self, env: AECEnv, talk: _Talk) -> None:
        super().__init__(env)
        self._talk = talk
        self._time, self._timed = 0, False

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        self._talk.post.begin(seed)
        self.env.reset(seed=seed, options=options)
        self._time, self._timed = 0, False
        self._look()

    def step(self, action: Any) -> None:
        agent = self.env.agent_selection
        if self.env.terminations[agent] or self.env.truncations[agent]:
            self.env.step(action)  # its empty turn
        else:
            self.env.step(self._talk.send(agent, action, self._time, True))
            self._time += not self._timed
        self._look()

    def _look(self) -> None:
        """What time it is, and what the next agent is told."""
        self.infos = tidy_infos(self.env.infos, self.env.agents)
        if not self.env.agents:
            return
        agent = self.env.agent_selection
        time = self.infos[agent].get("time")
        if type(time) is int:  # somebody keeps count
            self._timed, self._time = True, max(self._time, time)
        observation = self.env.observe(agent)
        self.infos[agent] = dict(self._talk.told(agent, observation, self.infos[agent]))

    def observe(self, agent: Any) -> Any:
        return self._talk.heard(agent, self.env.observe(agent), self._time)

    def observation_space(self, agent: Any) -> gymnasium.Space:
        return self._talk.observation_space(agent, self.env.observation_space(agent))

    def action_space(self, agent: Any) -> gymnasium.Space:
        return self._talk.action_space(agent, self.env.action_space(agent))

    def __str__(self) -> str:
        return str(self.env)
