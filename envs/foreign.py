"""Other people's environments as batched worlds: PettingZoo (parallel or in turns) and Gymnasium.

``B`` copies run side by side in Python, each with its own seed. ``split`` makes no difference to
them: what a test shows anew are seeds never trained on.

- A *parallel* environment takes one step a unit of world time, under the actions that hold.
- An environment *in turns* (``AECEnv``) takes one turn a unit of world time. It owns the schedule:
  only the agent whose turn it is in a world is active there.
- A ``gymnasium.Env`` is a parallel environment of one agent, ``agent_0``.
"""

from __future__ import annotations

import abc
import functools
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pettingzoo
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import AECEnv, ParallelEnv
from torch import Tensor

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
        build = _find(self.id)
        kwargs = dict(self.kwargs or {})
        envs = [_build(self.id, kwargs, build) for _ in range(num_worlds)]
        where = f"env.id={self.id}"
        if isinstance(envs[0], AECEnv):
            copies: list[_Copy] = [_TurnsCopy(env, where) for env in envs]
        elif isinstance(envs[0], ParallelEnv):
            copies = [_ParallelCopy(env, where) for env in envs]
        else:
            hint = "; use env=gym" if isinstance(envs[0], gymnasium.Env) else ""
            raise UserError(
                f"{where} gives a {type(envs[0]).__name__}; allowed: a PettingZoo ParallelEnv or "
                f"AECEnv{hint}"
            )
        horizon = self.horizon
        if horizon is None:
            cycles = getattr(envs[0].unwrapped, "max_cycles", None) or kwargs.get("max_cycles")
            turns = len(copies[0].possible_agents) if isinstance(copies[0], _TurnsCopy) else 1
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

        def build(**kwargs: Any) -> gymnasium.Env:
            return gymnasium.make(self.id, **kwargs)

        envs = [_build(self.id, kwargs, build) for _ in range(num_worlds)]
        steps = envs[0].spec.max_episode_steps if envs[0].spec is not None else None
        copies = [_ParallelCopy(_SoloEnv(env), f"env.id={self.id}") for env in envs]
        return ForeignWorld(copies, self.horizon or steps or DEFAULT_HORIZON, device)


class ForeignWorld(World):
    """Copies of one environment, stepped one after the other.

    Observations are the latest an agent had, zeros before its first; ``Discrete`` ones are one-hot,
    images (``uint8``) scaled to [0, 1] by the bounds of their space. Before its first action an
    agent does number 0 of its ``Discrete`` actions, or zeros clipped to the bounds of its ``Box``;
    continuous actions are clipped to the bounds.

    Args:
        copies: one a world.
        horizon: longest episode in world time.
        device: where tensors are made; the environments themselves run on the CPU.

    Raises:
        UserError: an agent's space is of a kind that does not fit; at reset and step, whatever the
            environment raises; at step, a reward that is not a finite number.
    """

    early_end = True
    rewards = True

    def __init__(self, copies: Sequence[_Copy], horizon: int, device: torch.device) -> None:
        self.num_worlds = len(copies)
        self.device = device
        self.horizon = horizon
        self._copies = copies
        self._ids = copies[0].possible_agents  # what the environment calls its agents
        self._index = {agent: index for index, agent in enumerate(self._ids)}
        self.agents = tuple(str(agent) for agent in self._ids)
        env = copies[0].env
        self._observations = [
            _Encoder(env.observation_space(a), f"observation of {a}") for a in self._ids
        ]
        self._actions = [_ActionSpace(env.action_space(a), str(a)) for a in self._ids]
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
        if np.isnan(batch).any():
            number = int(np.argwhere(np.isnan(batch))[0][0])
            raise UserError(
                f"observation of {self.agents[agents[number]]} at world time {self._time} "
                "has a NaN in it"
            )
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
                actions[agent] = self._actions[index].native(self._held[index][world])
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
        if isinstance(self._copies[0], _TurnsCopy):
            # Turns differ from world to world; active() says whose it is.
            return {agent: range(self.horizon) for agent in self.agents}
        return None

    def active(self) -> Tensor:
        active = np.zeros((len(self._ids), self.num_worlds), dtype=bool)
        for world, copy in enumerate(self._copies):
            active[[self._index[agent] for agent in copy.acting()], world] = True
        return torch.from_numpy(active).to(self.device)

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
            encoder = _Encoder(space, "state")
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
                row[:] = self._state(copy.env.state()).ravel()
        return torch.from_numpy(self._states.copy()).to(self.device)


# -- one copy of an environment ----------------------------------------------------------------


class _Copy(abc.ABC):
    """One environment, driven by whole units of world time.

    ``observations`` holds the latest of each agent, ``live`` the agents that have not ended.
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
        self.live: list[Any] = []

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self.observations = {}
        self._guard("in reset", lambda: self._reset(seed))

    def step(self, actions: dict[Any, Any], when: str) -> Mapping[Any, Any]:
        """One unit of world time under the actions of all who may act; rewards by agent."""
        if len(actions) == 1:
            when += f", {next(iter(actions))} acting"
        rewards: Mapping[Any, Any] = self._guard(when, lambda: self._step(actions))
        return rewards

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
        except Exception as error:
            raise UserError(f"{self.where} raised {when}: {_describe(error)}") from error
        unknown = [agent for agent in self.live if agent not in self.possible_agents]
        if unknown:
            raise UserError(
                f"{self.where}: agent {unknown[0]!r} appeared {when} and is not in possible_agents"
            )
        return result


class _ParallelCopy(_Copy):
    def _reset(self, seed: int) -> None:
        observations, _ = self.env.reset(seed=seed)
        self.observations.update(observations)
        self.live = list(self.env.agents)

    def _step(self, actions: dict[Any, Any]) -> Mapping[Any, Any]:
        observations, rewards, terminations, truncations, _ = self.env.step(actions)
        self.observations.update(observations)
        over = {*_true(terminations), *_true(truncations)}
        self.live = [agent for agent in self.env.agents if agent not in over]
        return rewards

    def acting(self) -> Sequence[Any]:
        return self.live


class _TurnsCopy(_Copy):
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
            self.env.step(None)
        self.live = list(self.env.agents)

    def acting(self) -> Sequence[Any]:
        return [self.env.agent_selection] if self.live else []


class _SoloEnv(ParallelEnv):
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
        observation, info = self.env.reset(seed=seed, options=options)
        self.agents = list(self.possible_agents)
        return {"agent_0": observation}, {"agent_0": info}

    def step(self, actions: dict[str, Any]) -> Any:
        results = self.env.step(actions["agent_0"])
        if results[2] or results[3]:
            self.agents = []
        return tuple({"agent_0": result} for result in results)


# -- spaces ------------------------------------------------------------------------------------


class _Encoder:
    """Turns observations of one space into float32 arrays of ``shape``."""

    def __init__(self, space: gymnasium.Space, what: str) -> None:
        self._space = space
        self._what = what
        if isinstance(space, spaces.Discrete):
            self.shape: tuple[int, ...] = (int(space.n),)
        elif isinstance(space, spaces.Box | spaces.MultiBinary):
            self.shape = tuple(space.shape) or (1,)
        else:
            raise UserError(
                f"{what}: {space} does not fit; allowed: Box, Discrete and MultiBinary. Wrap the "
                "environment in something that flattens it"
            )

    def __call__(self, value: Any) -> NDArray[np.float32]:
        """One observation; None, where there has been none yet, gives zeros."""
        if value is None:
            return np.zeros(self.shape, dtype=np.float32)
        if isinstance(self._space, spaces.Discrete):
            one_hot = np.zeros(self.shape, dtype=np.float32)
            one_hot[int(value) - int(self._space.start)] = 1
            return one_hot
        array = np.asarray(value, dtype=np.float32)
        if isinstance(self._space, spaces.Box) and self._space.dtype == np.uint8:
            low, high = self._space.low.astype(np.float32), self._space.high.astype(np.float32)
            array = (array - low) / np.maximum(high - low, 1).astype(np.float32)
        if array.size != math.prod(self.shape):
            raise UserError(
                f"{self._what} has shape {array.shape}; its space says {self._space.shape}"
            )
        return array.reshape(self.shape)


class _ActionSpace:
    """What one agent may do: an index, or a vector of numbers within bounds."""

    def __init__(self, space: gymnasium.Space, agent: str) -> None:
        self._space = space
        self.discrete = isinstance(space, spaces.Discrete)
        if isinstance(space, spaces.Discrete):
            self.size = int(space.n)
        elif (
            isinstance(space, spaces.Box)
            and len(space.shape) == 1
            and np.issubdtype(space.dtype, np.floating)
        ):
            self.size = int(space.shape[0])
        else:
            raise UserError(
                f"action of {agent}: {space} does not fit; allowed: Discrete, and a Box of floats "
                "with one dimension"
            )

    def zeros(self, num_worlds: int) -> NDArray[Any]:
        """``[B]`` int64 (discrete) or ``[B, size]`` float32."""
        if self.discrete:
            return np.zeros(num_worlds, dtype=np.int64)
        return np.zeros((num_worlds, self.size), dtype=np.float32)

    def native(self, value: Any) -> Any:
        """What the environment's ``step`` takes; a new object, which it may write to."""
        if isinstance(self._space, spaces.Discrete):
            return int(self._space.start) + int(value)
        assert isinstance(self._space, spaces.Box)
        return np.clip(value, self._space.low, self._space.high).astype(self._space.dtype)


def _reward(value: Any, agent: Any, when: str) -> float:
    try:
        reward = float(value)
    except (TypeError, ValueError):
        reward = math.nan
    if not math.isfinite(reward):
        raise UserError(f"reward of {agent} {when} is {value!r}: must be a finite number")
    return reward


def _true(flags: Mapping[Any, Any]) -> list[Any]:
    return [agent for agent, flag in flags.items() if flag]


# -- finding and building ----------------------------------------------------------------------


def _check_fields(env: PettingZooEnv | GymEnv) -> None:
    if not isinstance(env.id, str) or not env.id:
        raise UserError(f"env.id={env.id!r}: must be the name of an environment")
    if env.kwargs is not None and not isinstance(env.kwargs, Mapping):
        raise UserError(f"env.kwargs={env.kwargs!r}: must be a mapping from names to values")
    horizon: Any = env.horizon
    if horizon is not None and (type(horizon) is not int or horizon < 1):
        raise UserError(f"env.horizon={horizon!r}: must be an integer of at least 1")


def _build(id: str, kwargs: Mapping[str, Any], build: Callable[..., Any]) -> Any:
    try:
        return build(**kwargs)
    except Exception as error:
        given = f" with env.kwargs={dict(kwargs)}" if kwargs else ""
        raise UserError(f"env.id={id} can't be built{given}: {_describe(error)}") from error


def _find(id: str) -> Callable[..., Any]:
    """What builds the environment called ``id``."""
    registered, unregistered = _registered(id)
    if registered is not None:
        return registered
    if "/" in id:
        raise UserError(f"env.id={id}: {unregistered}")
    found = _import(id)
    if isinstance(found, ModuleType):
        names = ("parallel_env", "env", "raw_env")
        makers = [getattr(found, name) for name in names if callable(getattr(found, name, None))]
        if not makers:
            raise UserError(f"env.id={id}: the module has none of {', '.join(names)}")
        found = makers[0]
    if not callable(found):
        raise UserError(
            f"env.id={id} is a {type(found).__name__}; allowed: a module, or a class or function "
            "that returns an environment"
        )
    build: Callable[..., Any] = found
    return build


def _registered(id: str) -> tuple[Callable[..., Any] | None, str]:
    """What builds a registered environment; or None, and why there is none."""
    if not hasattr(pettingzoo, "make"):
        return None, "this version of PettingZoo has no registry; name a module"
    problem = ""
    for kind in ("parallel", "aec"):
        try:
            pettingzoo.spec(kind, id)
        except Exception as error:  # unknown name, space or version: no public class in common
            problem = _describe(error)
        else:
            return functools.partial(pettingzoo.make, kind, id), ""
    return None, problem


def _import(id: str) -> Any:
    """The module that ``id`` names, or the object in it."""
    path, _, attribute = id.partition(":")
    names = attribute.split(".") if attribute else []
    try:
        try:
            found: Any = importlib.import_module(path)
        except ModuleNotFoundError as error:
            # The last part may be a name inside a module; but what a module that exists fails to
            # import is for the user to see.
            parent, _, name = path.rpartition(".")
            if error.name != path or not parent or attribute:
                raise
            found = importlib.import_module(parent)
            if not hasattr(found, name):
                raise
            names = [name]
        for name in names:
            found = getattr(found, name)
    except Exception as error:
        raise UserError(f"env.id={id}: {_describe(error)}") from error
    return found


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
