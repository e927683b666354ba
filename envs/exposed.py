"""Environments written for many worlds at once, as ordinary PettingZoo ones of a single world."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import parallel_to_aec
from pettingzoo.utils.wrappers import AssertOutOfBoundsWrapper, OrderEnforcingWrapper

from dnicomm.errors import UserError
from dnicomm.sim.random import generator
from dnicomm.sim.world import AgentSpaces, Env, Split

_RENDER_MODES = ("human", "ansi")
_GREY_LEVELS = " .:-=+*#%@"


class ExposedEnv(ParallelEnv):
    """One world of ``env``, as a parallel PettingZoo environment.

    A step is a unit of world time, and everybody is there until the episode ends. An agent that is
    not due (the environment may own the schedule) is asked all the same: its action is ignored, and
    that it will be ``infos`` says beforehand, in plain numbers: ``time`` (world time) and ``due``
    (whether the action given next counts). An agent left out of ``step``'s actions goes on with the
    one it has.

    - Observations are float32; an agent that sees nothing sees a single zero.
    - An agent without actions has the one action 0.
    - Rewards are the world's own; in a world of labels, 1 for each right answer of an agent that
      is due, and for a continuous one minus the mean squared distance from the label.
    - ``state()`` is all observations and then the causal facts that utility models may see; the
      fact ``state`` alone, where there is one.
    - Messages are no part of it: they travel by the simulator's channels, or by somebody else's.

    Args:
        env: what is exposed.
        name: of the PettingZoo environment; None: the name of ``env`` and ``_v0``.
        split: ``train``, or ``test`` for data never trained on.
        bounds: lowest and highest number in an observation.
        render_mode: ``ansi`` (``render()`` returns text), ``human`` (it prints it) or None.

    Raises:
        UserError: ``render_mode`` is another; at step, an action outside its space.
    """

    def __init__(
        self,
        env: Env,
        name: str | None = None,
        split: Split = "train",
        bounds: tuple[float, float] = (-math.inf, math.inf),
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in _RENDER_MODES:
            allowed = ", ".join(_RENDER_MODES)
            raise UserError(f"render_mode={render_mode!r}: allowed: {allowed}, or None")
        self.metadata = {
            "name": name or f"{env.name}_v0",
            "render_modes": list(_RENDER_MODES),
            "is_parallelizable": True,
        }
        self.render_mode = render_mode
        self.world = env.make(1, split, torch.device("cpu"))
        self.possible_agents = list(self.world.agents)
        self.agents: list[str] = []
        self.max_cycles = self.world.horizon
        self.time = 0
        self.answers: dict[str, Any] = {}  # what each agent last did when it was due
        self._seed = int(np.random.SeedSequence().entropy)  # type: ignore[arg-type]
        self._episode = 0
        self._spaces = {agent: self.world.spaces(agent) for agent in self.possible_agents}
        self._seen = {a: _observation_space(s, bounds) for a, s in self._spaces.items()}
        self._done = {a: _action_space(s) for a, s in self._spaces.items()}
        facts = self.world.context_fields
        self._facts = [fact for fact, field in facts.items() if field.kind == "causal"]
        if "state" in self._facts:  # it holds the others
            self._facts = ["state"]
        lows = [space.low.ravel() for space in self._seen.values()]
        highs = [space.high.ravel() for space in self._seen.values()]
        lows += [np.full(facts[fact].size, min(bounds[0], 0), np.float32) for fact in self._facts]
        highs += [np.full(facts[fact].size, max(bounds[1], 1), np.float32) for fact in self._facts]
        self.state_space = spaces.Box(np.concatenate(lows), np.concatenate(highs))

    def observation_space(self, agent: str) -> gymnasium.Space:
        return self._seen[agent]

    def action_space(self, agent: str) -> gymnasium.Space:
        return self._done[agent]

    # -- time ---------------------------------------------------------------------------------

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, dict[str, Any]]]:
        """Begin an episode.

        Args:
            seed: of everything random; None: the next episode of the last seed (of one from the
                operating system, where there has been none).
            options: ignored.
        """
        if seed is None:
            self._episode += 1
        else:
            self._seed, self._episode = int(seed), 0
        # test data is shown one after another, from another place for each seed
        first = int(generator(self._seed, "first").integers(2**31))
        rng = generator(self._seed, "world", self._episode)
        self.world.reset(first + self._episode, rng)
        schedule = self.world.schedule()
        self._times = None if schedule is None else {a: {*schedule[a]} for a in schedule}
        self.agents = list(self.possible_agents)
        self.time, self.answers = 0, {}
        self._length = self.world.episode_length()
        self._observe()
        return dict(self._observations), dict(self._infos)

    def step(self, actions: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """One unit of world time under ``actions``, by agent."""
        if not self.agents:
            raise UserError(f"{self}: step() without an episode; call reset() first")
        acted = {
            agent: self._act(number, agent, actions[agent])
            for number, agent in enumerate(self.possible_agents)
            if agent in actions and self._infos[agent]["due"] and self._spaces[agent].action_size
        }
        self.answers |= acted
        rewards = self._rewards(acted)
        own = self.world.step()
        if own is not None and self.world.rewards:
            rewards = dict(zip(self.possible_agents, own[:, 0].tolist(), strict=True))
        self.time += 1
        ended = self.world.ended()
        true_end = ended is None or bool(ended[0])  # else at the horizon it is cut off
        over = self.time >= self._length or (ended is not None and true_end)
        agents = self.agents
        if over:
            self.agents = []
        self._observe()
        return (
            dict(self._observations),
            rewards,
            dict.fromkeys(agents, over and true_end),
            dict.fromkeys(agents, over and not true_end),
            dict(self._infos),
        )

    def _act(self, number: int, agent: str, action: Any) -> Any:
        if not self._done[agent].contains(action):
            raise UserError(
                f"action of {agent} at world time {self.time} is {action!r}; "
                f"allowed: {self._done[agent]}"
            )
        if self._spaces[agent].discrete:
            self.world.act([number], torch.tensor([[int(action)]]), None)
            return int(action)
        given = np.array(action, dtype=np.float32)
        self.world.act([number], torch.from_numpy(given)[None, None], None)
        return given.tolist()

    def _rewards(self, acted: Mapping[str, Any]) -> dict[str, float]:
        """Rewards for what the agents that were due just did, by agent; before time goes on."""
        rewards = dict.fromkeys(self.possible_agents, 0.0)
        for agent, answer in acted.items():
            label = self.world.labels([self.possible_agents.index(agent)])
            if label is None:
                continue
            right = label[0, 0]
            if right.is_floating_point():
                rewards[agent] = -float((torch.tensor(answer) - right).square().mean().nan_to_num())
            elif right >= 0:
                rewards[agent] = float(answer == right)
        return rewards

    def _observe(self) -> None:
        """Take down what everybody sees now, and who is due."""
        there = self.world.active()
        self._observations = {}
        self._infos = {}
        for number, agent in enumerate(self.possible_agents):
            seen = self.world.observe([number])[0, 0].numpy()
            empty = np.zeros(1, dtype=np.float32)
            self._observations[agent] = np.array(seen, np.float32) if seen.size else empty
            due = bool(self.agents) and (self._times is None or self.time in self._times[agent])
            due = due and (there is None or bool(there[number, 0]))
            self._infos[agent] = {"time": self.time, "due": due}

    # -- looking on ---------------------------------------------------------------------------

    def state(self) -> NDArray[np.float32]:
        """All observations and the causal facts, ``[size]`` float32."""
        parts = [self._observations[agent].ravel() for agent in self.possible_agents]
        parts += [self.world.context(fact)[0].numpy() for fact in self._facts]
        return np.concatenate(parts).astype(np.float32)

    def render(self) -> str | None:
        """The world as text: the time, the picture that is shown, and the answers so far."""
        if self.render_mode is None:
            raise UserError(f"{self} was made without a render_mode; allowed: ansi, human")
        lines = [f"{self}  time {self.time} of {self._length}"]
        image = self._image()
        if image is not None:
            lines.append(text_picture(image))
        for agent, own in self._spaces.items():
            if own.action_size:
                lines.append(f"{agent}: {self.answers.get(agent, 'no answer yet')}")
        text = "\n".join(lines) + "\n"
        if self.render_mode == "ansi":
            return text
        print(text)
        return None

    def _image(self) -> NDArray[np.float32] | None:
        """The picture that the world shows now, ``[H, W]`` in [0, 1]; None: there is none."""
        return None

    def close(self) -> None:
        """Nothing is open."""


def in_turns(env: ParallelEnv) -> AECEnv:
    """``env`` in PettingZoo's turns (AEC), with its checks of actions and of the order of calls."""
    return OrderEnforcingWrapper(AssertOutOfBoundsWrapper(parallel_to_aec(env)))


def square_picture(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """A flat picture ``[H * H]`` as ``[H, H]``."""
    side = math.isqrt(pixels.size)
    return pixels.reshape(side, side)


def text_picture(image: NDArray[np.float32]) -> str:
    """A grey picture ``[H, W]`` in [0, 1] as lines of text, two characters a pixel."""
    top = len(_GREY_LEVELS) - 1
    levels = np.rint(np.clip(image, 0, 1) * top).astype(int)
    return "\n".join("".join(2 * _GREY_LEVELS[level] for level in row) for row in levels)


def _observation_space(own: AgentSpaces, bounds: tuple[float, float]) -> spaces.Box:
    if math.prod(own.observation_shape) == 0:
        return spaces.Box(0, 1, (1,), np.float32)
    return spaces.Box(*bounds, own.observation_shape, np.float32)


def _action_space(own: AgentSpaces) -> spaces.Box | spaces.Discrete:
    if own.discrete or not own.action_size:
        return spaces.Discrete(max(own.action_size, 1))
    return spaces.Box(-np.inf, np.inf, (own.action_size,), np.float32)
