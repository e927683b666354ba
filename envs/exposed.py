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
from dnicomm.sim.closing import OpenThings
from dnicomm.sim.random import generator
from dnicomm.sim.world import AgentSpaces, Env, Moment, Split, World

_FPS = 4  # world time a second, where it is shown
_ANSWERS = 20  # agents whose answers are named in a text


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
        render_mode: ``rgb_array`` (``render()`` returns a picture ``[H, W, 3]`` uint8, where the
            world has one), ``ansi`` (it returns text), ``human`` (it shows a window; without a
            display it prints the text) or None.

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
        self._opened = OpenThings()
        self.world = self._opened.add(env.make(1, split, torch.device("cpu")), env.name)
        self._drawn = type(self.world).draw is not World.draw
        self._modes = ["human", "rgb_array", "ansi"] if self._drawn else ["human", "ansi"]
        if render_mode is not None and render_mode not in self._modes:
            allowed = ", ".join(self._modes)
            raise UserError(f"render_mode={render_mode!r}: allowed: {allowed}, or None")
        self.metadata = {
            "name": name or f"{env.name}_v0",
            "render_modes": list(self._modes),
            "render_fps": _FPS,
            "is_parallelizable": True,
        }
        self.render_mode = render_mode
        self._window: Any = None  # once there is one, or False where there can be none
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

    def render(self) -> str | NDArray[np.uint8] | None:
        """The world now, as ``render_mode`` says."""
        if self.render_mode is None:
            allowed = ", ".join(self._modes)
            raise UserError(f"{self} was made without a render_mode; allowed: {allowed}")
        if self.render_mode == "rgb_array":
            return self._picture()
        if self.render_mode == "ansi":
            return self._text()
        if self._window is None and self._drawn:
            from dnicomm.envs.window import open_window

            self._window = open_window(str(self), _FPS) or False
        if self._window:
            self._window.show(self._picture())
        else:
            print(self._text())
        return None

    def _picture(self) -> NDArray[np.uint8] | None:
        due = [i for i, a in enumerate(self.possible_agents) if self._infos[a]["due"]]
        return self.world.draw(0, Moment(self.time, frozenset(due)))

    def _text(self) -> str:
        """The time, the picture that is shown, and the answers so far."""
        lines = [f"{self}  time {self.time} of {self._length}"]
        picture = self.world.text(0)
        if picture is not None:
            lines.append(picture)
        acting = [agent for agent, own in self._spaces.items() if own.action_size]
        for agent in acting[:_ANSWERS]:
            lines.append(f"{agent}: {self.answers.get(agent, 'no answer yet')}")
        if len(acting) > _ANSWERS:
            lines.append(f"… and {len(acting) - _ANSWERS} more")
        return "\n".join(lines) + "\n"

    def close(self) -> None:
        """Close the window, if there is one, and the world."""
        if self._window:
            self._window.close()
        self._window = None
        self._opened.close()


def in_turns(env: ParallelEnv) -> AECEnv:
    """``env`` in PettingZoo's turns (AEC), with its checks of actions and of the order of calls."""
    return OrderEnforcingWrapper(AssertOutOfBoundsWrapper(parallel_to_aec(env)))


def _observation_space(own: AgentSpaces, bounds: tuple[float, float]) -> spaces.Box:
    if math.prod(own.observation_shape) == 0:
        return spaces.Box(0, 1, (1,), np.float32)
    return spaces.Box(*bounds, own.observation_shape, np.float32)


def _action_space(own: AgentSpaces) -> spaces.Box | spaces.Discrete:
    if own.discrete or not own.action_size:
        return spaces.Discrete(max(own.action_size, 1))
    return spaces.Box(-np.inf, np.inf, (own.action_size,), np.float32)
