"""How many steps a second environments take: worlds in a batch beside PettingZoo copies in a loop.

Both do the same work: everybody who is due is asked and acts at random, what they see and what they
learn from is computed, and whoever has come to the end begins anew. The two take turns in one
process; what counts is the ratio within each round.
"""

from __future__ import annotations

import gc
import importlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dnicomm.bench.stopwatch import stopwatch
from dnicomm.envs import (
    Consensus,
    Counting,
    PredatorPrey,
    Reference,
    Relay,
    Signalling,
    SpeakerListener,
    Switch,
    Traffic,
)
from dnicomm.sim.random import generator
from dnicomm.sim.world import Env, World

SHIPPED: Mapping[str, Env] = {
    env.name: env
    for env in (
        Relay(), Counting(), Switch(), PredatorPrey(), Traffic(), SpeakerListener(), Reference(),
        Consensus(), Signalling(),
    )
}  # fmt: skip
WORLDS = (1, 64, 4096)
ROUNDS = 5
SECONDS = 0.3  # of each of the two in a round, at least


@dataclass(frozen=True)
class EnvironmentSpeed:
    """What was measured of one environment and number of worlds."""

    environment: str
    worlds: int  # B
    batched: float  # steps of one world a second, worlds in a batch; the median of rounds
    copies: float  # the same of B PettingZoo copies in a loop
    ratio: float  # of the two, the median of rounds
    low: float  # the least ratio of a round
    high: float  # the largest


def measure(
    environments: Mapping[str, Env] = SHIPPED,
    worlds: Sequence[int] = WORLDS,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
) -> list[EnvironmentSpeed]:
    """Time each environment with each number of worlds, on the CPU.

    One torch thread is timed by the processor's clock, for the machine may be shared. A round of
    copies is at least one step of each: with 4,096 of them that takes seconds.

    Args:
        environments: by name; each has a module ``dnicomm.envs.NAME_v0``.
        worlds: numbers of worlds, and of copies.
        rounds: turns of each of the two.
        seconds: that a turn takes at least.
    """
    return [
        _row(name, env, count, rounds, seconds)
        for name, env in environments.items()
        for count in worlds
    ]


def _row(name: str, env: Env, count: int, rounds: int, seconds: float) -> EnvironmentSpeed:
    batch = steps_of_a_batch(env, count)
    copies = steps_of_copies(name, env, count)
    clock = stopwatch()
    next(copies)  # to warm up
    for _ in range(3):
        next(batch)
    with _no_collection():
        rates = [
            (_rate(_warm(batch), seconds, clock), _rate(copies, seconds, clock))
            for _ in range(rounds)
        ]
    ratios = [one / other for one, other in rates]
    one, other = (statistics.median(own) for own in zip(*rates, strict=True))
    return EnvironmentSpeed(
        name, count, one, other, statistics.median(ratios), min(ratios), max(ratios)
    )


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's search for garbage, which takes long among thousands of copies."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _warm(steps: Iterator[int]) -> Iterator[int]:
    """After a step: the first one after thousands of copies sorts the memory that they left."""
    next(steps)
    return steps


def _rate(steps: Iterator[int], seconds: float, clock: Callable[[], float]) -> float:
    """Steps of one world a second, in a turn of at least ``seconds``."""
    done, began, end = 0, clock(), 0.0
    while end < seconds:
        done += next(steps)
        end = clock() - began
    return done / end


def steps_of_a_batch(env: Env, count: int) -> Iterator[int]:
    """Step ``count`` worlds together for ever; yields how many of them went on."""
    world = env.make(count, "train", torch.device("cpu"))
    world.reset(0, generator(0, "speed", 0))  # some tell more once they began
    groups = _groups(world)
    episode = 0
    while True:
        episode += 1
        world.reset(episode, generator(0, "speed", episode))
        schedule = world.schedule()
        for time in range(world.episode_length()):
            ended = world.ended()
            there = world.active()
            for agents, actions in groups:
                due = [i for i in agents if schedule is None or time in schedule[world.agents[i]]]
                if not due:
                    continue
                world.observe(due)
                if actions is not None:
                    drawn = actions[time % len(actions), : len(due)]
                    world.act(due, drawn, None if there is None else there[due])
                world.labels(due)
            world.step()
            yield count if ended is None else int((~ended).sum())
            after = world.ended()
            if world.early_end and after is not None and bool(after.all()):
                break


def _groups(world: World) -> list[tuple[list[int], Tensor | None]]:
    """Agents with equal spaces, and random actions ``[times, n, B, …]`` of those that act."""
    found: dict[Any, list[int]] = {}
    for i, name in enumerate(world.agents):
        found.setdefault(world.spaces(name), []).append(i)
    rng = np.random.default_rng(0)
    groups: list[tuple[list[int], Tensor | None]] = []
    for spaces, agents in found.items():
        shape = (3, len(agents), world.num_worlds)
        actions = None
        if spaces.action_size and spaces.discrete:
            actions = torch.from_numpy(rng.integers(spaces.action_size, size=shape))
        elif spaces.action_size:
            drawn = rng.uniform(-1, 1, (*shape, spaces.action_size)).astype(np.float32)
            actions = torch.from_numpy(drawn)
        groups.append((agents, actions))
    return groups


def steps_of_copies(name: str, env: Env, count: int) -> Iterator[int]:
    """Step ``count`` PettingZoo environments one after another for ever; yields how many."""
    module = importlib.import_module(f"dnicomm.envs.{name}_v0")
    settings = {
        key: value for key, value in vars(env).items() if key not in ("name", "eval_worlds")
    }
    copies = [module.parallel_env(**settings) for _ in range(count)]
    for number, copy in enumerate(copies):
        copy.reset(seed=number)
    spaces = {agent: copies[0].action_space(agent) for agent in copies[0].possible_agents}
    drawn = [{agent: space.sample() for agent, space in spaces.items()} for _ in range(3)]
    time = 0
    while True:
        time += 1
        for copy in copies:
            if not copy.agents:
                copy.reset()
            copy.step(drawn[time % 3])
        yield count
