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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import AECEnv, ParallelEnv
from torch import Tensor

from dnicomm.envs.copies import Copy, ParallelCopy, SoloEnv, TurnsCopy
from dnicomm.envs.infos import reward_number
from dnicomm.envs.lookup import build, check_registered, find
from dnicomm.envs.repeatability import find_difference
from dnicomm.envs.space_seeds import SpaceSeeds
from dnicomm.envs.spaces import ActionSpace, Encoder
from dnicomm.errors import UserError
from dnicomm.sim.closing import OpenThings
from dnicomm.sim.notices import notify_once
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
        kwargs, where = dict(self.kwargs or {}), f"env.id={self.id}"
        with OpenThings() as opened:
            envs = [opened.add(build(self.id, kwargs, maker), where) for _ in range(num_worlds)]
            return self._world(envs, kwargs, where, device, opened)

    def _world(
        self,
        envs: Sequence[Any],
        kwargs: Mapping[str, Any],
        where: str,
        device: torch.device,
        opened: OpenThings,
    ) -> ForeignWorld:
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
            if isinstance(cycles, int | float | np.number) and 1 <= cycles < math.inf:
                horizon = int(cycles) * turns
            else:
                horizon = DEFAULT_HORIZON
        return ForeignWorld(copies, horizon, device, opened)


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

        where = f"env.id={self.id}"
        with OpenThings() as opened:
            envs = [opened.add(build(self.id, kwargs, maker), where) for _ in range(num_worlds)]
            steps = envs[0].spec.max_episode_steps if envs[0].spec is not None else None
            copies = [ParallelCopy(SoloEnv(env), where) for env in envs]
            horizon = self.horizon or steps or DEFAULT_HORIZON
            return ForeignWorld(copies, horizon, device, opened)


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
        opened: the environments, which are closed with the world, or when it is dropped.

    Raises:
        UserError: an agent's space is of a kind that does not fit; later, whatever the environment
            raises, and numbers that are not finite or outside of their spaces. Names the agent and
            the world time.
    """

    early_end = True
    rewards = True
    draws_globally = True

    def __init__(
        self, copies: Sequence[Copy], horizon: int, device: torch.device, opened: OpenThings
    ) -> None:
        self._opened = opened
        opened.close_when_dropped(self)
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
        self._space_seeds = SpaceSeeds(
            copy.spaces(a, method)
            for copy in copies
            for a in self._ids
            for method in ("observation_space", "action_space")
        )
        self.outside = np.zeros(len(self._ids), dtype=np.int64)  # observations beyond their bounds
        self._find_state()

    def spaces(self, agent: str) -> AgentSpaces:
        index = self.agents.index(agent)
        action = self._actions[index]
        return AgentSpaces(self._observations[index].shape, action.size, action.discrete)

    def close(self) -> None:
        self._opened.close()

    def reset(self, episode: int, rng: np.random.Generator) -> None:
        if self._opened.closed:
            raise UserError(f"{self._copies[0].where} is closed: no episode can begin")
        self._begin()
        seeds = rng.integers(2**31, size=self.num_worlds)
        self._space_seeds.draw(rng)
        for copy, seed in zip(self._copies, seeds, strict=True):
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
                f"has {batch[place]} in it: must be finite numbers of single precision"
            )
        for row, agent in enumerate(agents):
            self._check_bounds(agent, batch[row])
        return torch.from_numpy(batch).to(self.device)

    def _check_bounds(self, agent: int, seen: NDArray[np.float32]) -> None:
        """Count observations ``[B, *shape]`` that lie outside their space; say so once."""
        found = self._observations[agent].outside(seen)
        if found is None:
            return
        count, entry, value, low, high = found
        name = self.agents[agent]
        if self.outside[agent] == 0:
            notify_once(
                f"{self._copies[0].where}: observation of {name} has {value:.6g} at entry {entry}, "
                f"outside its space's {low:.6g} to {high:.6g} (world time {self._time}); "
                "agents see it as it is"
            )
        self.outside[agent] += count

    def allowed(self, agents: Sequence[int]) -> Tensor | None:
        masks = [[self._mask(copy, i) for copy in self._copies] for i in agents]
        if all(mask is None for row in masks for mask in row):
            return None
        free = np.ones(self._actions[agents[0]].size, dtype=bool)
        batch = np.array([[free if mask is None else mask for mask in row] for row in masks])
        return torch.from_numpy(batch).to(self.device)

    def _mask(self, copy: Copy, index: int) -> NDArray[np.bool_] | None:
        """What an agent may do now, ``[action_size]``; None: everything, or it does not act."""
        agent, actions = self._ids[index], self._actions[index]
        given = copy.mask(agent)
        if given is None or agent not in copy.acting():  # who waits may be allowed nothing
            return None
        try:
            return actions.mask(given)
        except ValueError as error:
            raise UserError(
                f"{copy.where}: action_mask of {agent} at world time {self._time} {error}; "
                f"its actions are {actions}"
            ) from None

    def act(self, agents: Sequence[int], actions: Tensor, active: Tensor | None) -> None:
        values = actions.detach().cpu().numpy()
        mask = np.ones(values.shape[:2], bool) if active is None else active.cpu().numpy()
        for row, agent in enumerate(agents):
            self._held[agent][mask[row]] = values[row][mask[row]]

    def step(self) -> Tensor:
        rewards = np.zeros((len(self._ids), self.num_worlds), dtype=np.float32)
        for world, copy in enumerate(self._copies):
            if not copy.live:
                copy.truncated, copy.reborn = set(), set()  # that was at an earlier step
                continue
            actions = {}
            for agent in copy.acting():
                index = self._index[agent]
                mask = self._mask(copy, index)
                held = self._actions[index].allowed(self._held[index][world], mask)
                actions[agent] = self._actions[index].native(held)
            when = f"at world time {self._time}"
            for agent, reward in copy.step(actions, when).items():
                if agent in self._index:
                    rewards[self._index[agent], world] = reward_number(reward, agent, when)
            for agent in copy.reborn:  # a new life begins idle
                held = self._held[self._index[agent]]
                held[world] = np.zeros_like(held[world])
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
        return self._of_agents(lambda copy: copy.acting())

    def alive(self) -> Tensor:
        return self._of_agents(lambda copy: copy.live)

    def truncated(self) -> Tensor | None:
        if not any(copy.truncated for copy in self._copies):
            return None
        return self._of_agents(lambda copy: copy.truncated)

    def reborn(self) -> Tensor | None:
        if not any(copy.reborn for copy in self._copies):
            return None
        return self._of_agents(lambda copy: copy.reborn)

    def _of_agents(self, whom: Callable[[Copy], Collection[Any]]) -> Tensor:
        """``[num_agents, B]`` bool: who is among those of a copy."""
        found = np.zeros((len(self._ids), self.num_worlds), dtype=bool)
        for world, copy in enumerate(self._copies):
            found[[self._index[agent] for agent in whom(copy)], world] = True
        return torch.from_numpy(found).to(self.device)

    def complaints(self) -> Sequence[str]:
        return [
            f"{name}: {count:,} observations outside their space"
            for name, count in zip(self.agents, self.outside.tolist(), strict=True)
            if count
        ]

    def refresh(self, agents: Sequence[int]) -> None:
        ids = [self._ids[i] for i in agents]
        for copy in self._copies:
            copy.refresh(ids, f"at world time {self._time}")

    def ended(self) -> Tensor:
        return torch.tensor([not copy.live for copy in self._copies], device=self.device)

    # -- the environment's own state, as training-time context ---------------------------------

    def _find_state(self) -> None:
        copy = self._copies[0]
        # many state() work after a reset only; every episode begins with its own
        difference = find_difference(copy, self._space_seeds)
        self.remarks = [] if difference is None else [difference]
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


def _check_fields(env: PettingZooEnv | GymEnv) -> None:
    if not isinstance(env.id, str) or not env.id:
        raise UserError(f"env.id={env.id!r}: must be the name of an environment")
    if env.kwargs is not None and not isinstance(env.kwargs, Mapping):
        raise UserError(f"env.kwargs={env.kwargs!r}: must be a mapping from names to values")
    horizon: Any = env.horizon
    if horizon is not None and (type(horizon) is not int or horizon < 1):
        raise UserError(f"env.horizon={horizon!r}: must be an integer of at least 1")
