"""Other people's environments as batched worlds: PettingZoo (parallel or in turns) and Gymnasium.

``B`` copies run side by side in Python, each with its own seed. ``split`` makes no difference to
them: what a test shows anew are seeds never trained on.

- A *parallel* environment takes one step a unit of world time, under the actions that hold.
- An environment *in turns* (``AECEnv``) takes one turn a unit of world time. It owns the schedule:
  only the agent whose turn it is in a world is active there.
- A ``gymnasium.Env`` is a parallel environment of one agent, ``agent_0``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv
from torch import Tensor

from dnicomm.envs.copies import Copy, ParallelCopy, SoloEnv, TurnsCopy
from dnicomm.envs.lookup import build, check_registered, find
from dnicomm.envs.spaces import ActionSpace, Encoder
from dnicomm.errors import UserError
from dnicomm.sim.world import AgentSpaces, ContextField, Env, Split, World

DEFAULT_HORIZON = 1000  # world time, where an environment does not say how long it lasts


@dataclass(frozen=True)
class PettingZooEnv(Env):
    """A PettingZoo environment, parallel or in turns.

    Args:
        id: a module with ``parallel_env``, ``env`` or ``raw_env`` (``mpe2.simple_spread_v3``), a
            class or function that returns an environment (``my_module:factory`` or
            ``my_module.Factory``), or a name in PettingZoo's registry
            (``butterfly/pistonball-v6``).
        kwargs: passed to what builds the environment.
        horizon: longest episode in world time, for an environment in turns the number of turns.
            Default: the environment's ``max_cycles`` (times its agents, where they take turns),
            or 1000 where it has none.

    Raises:
        UserError: from :meth:`make`, where the environment can't be found, built or understood.
    """

    id: str
    kwargs: Mapping[str, Any] | None = None
    horizon: int | None = None

    name = "pettingzoo"

    def __post_init__(self) -> None:
        _check_fields(self)

    def make(self, num_worlds: int, split: Split, device: torch.device) -> ForeignWorld:
        maker = find(self.id)
        kwargs = dict(self.kwargs or {})
        envs = [build(self.id, kwargs, maker) for _ in range(num_worlds)]
        where = f"env.id={self.id}"
        if isinstance(envs[0], AECEnv):
            copies: list[Copy] = [TurnsCopy(env, where) for env in envs]
        elif isinstance(envs[0], ParallelEnv):
            copies = [ParallelCopy(env, where) for env in envs]
        else:
            hint = "; use env=gym" if isinstance(envs[0], gymnasium.Env) else ""
            raise UserError(
                f"{where} gives a {type(envs[0]).__name__}; allowed: a PettingZoo ParallelEnv or "
                f"AECEnv{hint}"
            )
        horizon = self.horizon
        if horizon is None:
            cycles = getattr(envs[0].unwrapped, "max_cycles", None) or kwargs.get("max_cycles")
            turns = len(copies[0].possible_agents) if isinstance(copies[0], TurnsCopy) else 1
            horizon = int(cycles) * turns if cycles else DEFAULT_HORIZON
        return ForeignWorld(copies, horizon, device)


@dataclass(frozen=True)
class GymEnv(Env):
    """A single-agent Gymnasium environment, as a world of one agent, ``agent_0``.

    Args:
        id: what ``gymnasium.make`` takes, e.g. ``CartPole-v1`` or ``my_module:MyEnv-v0``.
        kwargs: passed to ``gymnasium.make``.
        horizon: longest episode in world time. Default: the environment's ``max_episode_steps``,
            or 1000 where it has none.

    Raises:
        UserError: from :meth:`make`, where the environment can't be found, built or understood.
    """

    id: str
    kwargs: Mapping[str, Any] | None = None
    horizon: int | None = None

    name = "gym"

    def __post_init__(self) -> None:
        _check_fields(self)

    def make(self, num_worlds: int, split: Split, device: torch.device) -> ForeignWorld:
        kwargs = dict(self.kwargs or {})

        check_registered(self.id)

        def maker(**kwargs: Any) -> gymnasium.Env:
            return gymnasium.make(self.id, **kwargs)

        envs = [build(self.id, kwargs, maker) for _ in range(num_worlds)]
        steps = envs[0].spec.max_episode_steps if envs[0].spec is not None else None
        copies = [ParallelCopy(SoloEnv(env), f"env.id={self.id}") for env in envs]
        return ForeignWorld(copies, self.horizon or steps or DEFAULT_HORIZON, device)


class ForeignWorld(World):
    """Copies of one environment, stepped one after the other.

    Observations are the latest an agent had, zeros before its first; :mod:`dnicomm.envs.spaces`
    says what becomes of their spaces and of those of actions. Before its first action an agent does
    number 0 of its discrete actions, or zeros clipped to the bounds of its ``Box``; continuous
    actions are clipped to the bounds. Where the environment has an ``action_mask``, agents choose
    among what it allows; an action held from an earlier tick that it forbids by now stands for the
    next one that is allowed.

    Args:
        copies: one a world.
        horizon: longest episode in world time.
        device: where tensors are made; the environments themselves run on the CPU.

    Raises:
        UserError: an agent's space is of a kind that does not fit; later, whatever the environment
            raises, and numbers that are not finite or outside of their spaces. Names the agent and
            the world time.
    """

    early_end = True
    rewards = True

    def __init__(self, copies: Sequence[Copy], horizon: int, device: torch.device) -> None:
        self.num_worlds = len(copies)
        self.device = device
        self.horizon = horizon
        self._copies = copies
        self._ids = copies[0].possible_agents  # what the environment calls its agents
        self._index = {agent: index for index, agent in enumerate(self._ids)}
        self.agents = tuple(str(agent) for agent in self._ids)
        if not self.agents:
            raise UserError(f"{copies[0].where} has no agents: its possible_agents is empty")
        spaces_of = copies[0].spaces
        self._observations = [
            Encoder(spaces_of(a, "observation_space"), f"observation of {a}") for a in self._ids
        ]
        self._actions = [ActionSpace(spaces_of(a, "action_space"), str(a)) for a in self._ids]
        self._begin()
        self._find_state()

    def spaces(self, agent: str) -> AgentSpaces:
        index = self.agents.index(agent)
        action = self._actions[index]
        return AgentSpaces(self._observations[index].shape, action.size, action.discrete)

    def reset(self, episode: int, rng: np.random.Generator) -> None:
        self._begin()
        for copy, seed in zip(self._copies, rng.integers(2**31, size=self.num_worlds), strict=True):
            copy.reset(int(seed))

    def _begin(self) -> None:
        self._time = 0
        # Zeros stand for the idle action, in either kind of space.
        self._held = [space.zeros(self.num_worlds) for space in self._actions]
        self._returns = np.zeros((len(self._ids), self.num_worlds))

    def observe(self, agents: Sequence[int]) -> Tensor:
        rows = [
            [self._observations[i](copy.observations.get(self._ids[i])) for copy in self._copies]
            for i in agents
        ]
        batch = np.array(rows, dtype=np.float32)  # [n, B, *observation_shape]
        wrong = ~np.isfinite(batch)
        if wrong.any():
            place = tuple(np.argwhere(wrong)[0])
            raise UserError(
                f"observation of {self.agents[agents[place[0]]]} at world time {self._time} "
                f"has {batch[place]} in it: must be finite numbers"
            )
        return torch.from_numpy(batch).to(self.device)

    def allowed(self, agents: Sequence[int]) -> Tensor | None:
        masks = [
            [self._actions[i].mask(copy.allowed(self._ids[i])) for copy in self._copies]
            for i in agents
        ]
        if all(mask is None for row in masks for mask in row):
            return None
        free = np.ones(self._actions[agents[0]].size, dtype=bool)
        batch = np.array([[free if mask is None else mask for mask in row] for row in masks])
        return torch.from_numpy(batch).to(self.device)

    def act(self, agents: Sequence[int], actions: Tensor, active: Tensor | None) -> None:
        values = actions.detach().cpu().numpy()
        mask = np.ones(values.shape[:2], bool) if active is None else active.cpu().numpy()
        for row, agent in enumerate(agents):
            self._held[agent][mask[row]] = values[row][mask[row]]

    def step(self) -> Tensor:
        rewards = np.zeros((len(self._ids), self.num_worlds), dtype=np.float32)
        for world, copy in enumerate(self._copies):
            if not copy.live:
                continue
            actions = {}
            for agent in copy.acting():
                index = self._index[agent]
                held = self._actions[index].allowed(self._held[index][world], copy.allowed(agent))
                actions[agent] = self._actions[index].native(held)
            when = f"at world time {self._time}"
            for agent, reward in copy.step(actions, when).items():
                if agent in self._index:
                    rewards[self._index[agent], world] = _reward(reward, agent, when)
        self._time += 1
        self._returns += rewards
        return torch.from_numpy(rewards).to(self.device)

    def score(self) -> dict[str, Tensor]:
        returns = torch.from_numpy(self._returns.mean(0).astype(np.float32))
        return {"return": returns.to(self.device)}

    def schedule(self) -> Mapping[str, Sequence[int]] | None:
        if isinstance(self._copies[0], TurnsCopy):
            # Turns differ from world to world; active() says whose it is.
            return {agent: range(self.horizon) for agent in self.agents}
        return None

    def active(self) -> Tensor:
        active = np.zeros((len(self._ids), self.num_worlds), dtype=bool)
        for world, copy in enumerate(self._copies):
            active[[self._index[agent] for agent in copy.acting()], world] = True
        return torch.from_numpy(active).to(self.device)

    def alive(self) -> Tensor:
        alive = np.zeros((len(self._ids), self.num_worlds), dtype=bool)
        for world, copy in enumerate(self._copies):
            alive[[self._index[agent] for agent in copy.live], world] = True
        return torch.from_numpy(alive).to(self.device)

    def ended(self) -> Tensor:
        return torch.tensor([not copy.live for copy in self._copies], device=self.device)

    # -- the environment's own state, as training-time context ---------------------------------

    def _find_state(self) -> None:
        copy = self._copies[0]
        copy.reset(0)  # many state() work after a reset only; every episode begins with its own
        space = getattr(copy.env, "state_space", None)
        if not isinstance(space, spaces.Space):
            return
        try:
            encoder = Encoder(space, "state")
            encoder(copy.env.state())
        except Exception:  # it declares a state and has none, or one of a kind that does not fit
            return
        self._state = encoder
        self._states = np.zeros((self.num_worlds, math.prod(encoder.shape)), dtype=np.float32)
        self.context_fields = {"state": ContextField(self._states.shape[1])}
        if space.dtype != np.uint8:  # not a whole picture, unless somebody asks for it
            self.default_context = ("state",)

    def context(self, field: str) -> Tensor:
        if field not in self.context_fields:
            raise KeyError(field)
        for row, copy in zip(self._states, self._copies, strict=True):
            if copy.live:  # in a world that has ended, the last state asked for stays
                row[:] = self._state(copy.state(f"in state() at world time {self._time}")).ravel()
        return torch.from_numpy(self._states.copy()).to(self.device)


def _reward(value: Any, agent: Any, when: str) -> float:
    try:
        reward = float(value)
    except (TypeError, ValueError):
        reward = math.nan
    if not math.isfinite(reward):
        raise UserError(f"reward of {agent} {when} is {value!r}: must be a finite number")
    return reward


def _check_fields(env: PettingZooEnv | GymEnv) -> None:
    if not isinstance(env.id, str) or not env.id:
        raise UserError(f"env.id={env.id!r}: must be the name of an environment")
    if env.kwargs is not None and not isinstance(env.kwargs, Mapping):
        raise UserError(f"env.kwargs={env.kwargs!r}: must be a mapping from names to values")
    horizon: Any = env.horizon
    if horizon is not None and (type(horizon) is not int or horizon < 1):
        raise UserError(f"env.horizon={horizon!r}: must be an integer of at least 1")
