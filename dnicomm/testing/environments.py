"""Does an environment keep the contract of ``dnicomm.sim.Env`` and ``World``?"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dnicomm.errors import UserError
from dnicomm.sim import AgentSpaces, Env, World
from dnicomm.sim.random import global_seed
from dnicomm.sim.topology import check_edges
from dnicomm.testing.complaints import Complaints, Stop

WORLDS = 3
STEPS = 50


def check_env(env: Env, num_worlds: int = WORLDS, steps: int = STEPS) -> list[str]:
    """What an environment gets wrong.

    Args:
        env: its description.
        num_worlds: worlds to build.
        steps: world time to play, with random actions; an episode at most.
    """
    found = Complaints()
    with contextlib.suppress(Stop):
        if not isinstance(env, Env):
            found.fail(f"a {type(env).__name__} is no Env (dnicomm.sim.Env)")
        if not isinstance(getattr(env, "name", None), str):
            found.add('it has no name: set name = "…" in the class')
        with found.step("make failed for the test split"):
            tests = env.make(num_worlds, "test", torch.device("cpu"))
        _close(tests, found)  # before others are built: there may be room for one only
        with found.step("make failed"):
            world = env.make(num_worlds, "train", torch.device("cpu"))
        if not isinstance(world, World):
            found.fail(f"make returns a {type(world).__name__}; it must be a dnicomm.sim.World")
        try:
            _check_world(world, num_worlds, steps, found)
        finally:
            _close(world, found)
    return list(found)


def _check_world(world: World, num_worlds: int, steps: int, found: Complaints) -> None:
    spaces = _check_facts(world, num_worlds, found)
    plays = []
    for number in range(2):
        with global_seed(0 if world.draws_globally else number, "check"):
            plays.append(_play(world, spaces, steps, found))
    first, again = plays
    if world.remarks:
        for remark in world.remarks:
            found.add(remark)
    elif len(first) != len(again) or any(
        not torch.equal(a, b) for a, b in zip(first, again, strict=True)
    ):
        found.add("the same episode with the same generator goes another way: all that is "
                  "random in reset must come from rng, and no state be kept")  # fmt: skip


def _close(world: Any, found: Complaints) -> None:
    if isinstance(world, World):
        with found.step("close failed"):
            world.close()


def _check_facts(world: World, num_worlds: int, found: Complaints) -> dict[str, AgentSpaces]:
    for name in ("agents", "num_worlds", "device", "horizon"):
        if not hasattr(world, name):
            found.fail(f"the world has no {name}")
    if not world.agents or len(set(world.agents)) < len(world.agents):
        found.fail("agents must be a tuple of different names, at least one")
    if world.num_worlds != num_worlds:
        found.add(f"num_worlds is {world.num_worlds}, and {num_worlds} were asked for")
    if type(world.horizon) is not int or world.horizon < 1:
        found.fail(f"horizon is {world.horizon!r}; it must be an integer of at least 1")
    if world.edges is not None:
        try:
            check_edges(world.edges, world.agents)
        except UserError as error:
            found.add(f"its edges are wrong: {error}")
    for name in world.default_context:
        if name not in world.context_fields:
            found.add(f"default_context names {name}, which is not in context_fields")
    if world.label_field is not None and world.label_field not in world.context_fields:
        found.add(f"label_field is {world.label_field}, which is not in context_fields")
    with found.step("spaces failed"):
        spaces = {agent: world.spaces(agent) for agent in world.agents}
    for agent, space in spaces.items():
        if not isinstance(space, AgentSpaces):
            found.fail(f"spaces({agent!r}) is a {type(space).__name__}; it must be AgentSpaces")
    return spaces


def _play(
    world: World, spaces: dict[str, AgentSpaces], steps: int, found: Complaints
) -> list[Tensor]:
    """An episode or its beginning, with random actions; everything that was seen."""
    rng = np.random.default_rng(0)
    with found.step("reset failed"):
        world.reset(0, np.random.default_rng(1))
    length = world.episode_length()
    if not 1 <= length <= world.horizon:
        found.fail(f"episode_length() is {length}; it must be from 1 to horizon = {world.horizon}")
    due = _due(world, length, found)
    seen: list[Tensor] = []
    for time in range(min(length, steps)):
        _check_masks(world, found)
        if found:
            raise Stop
        for index, agent in enumerate(world.agents):
            if agent in due and time not in due[agent]:
                continue
            seen.append(_tick(world, spaces[agent], index, agent, rng, found))
        for name, field in world.context_fields.items():
            with found.step(f"context({name!r}) failed"):
                fact = world.context(name)
            found.check_tensor(f"context({name!r})", fact, (world.num_worlds, field.size))
        with found.step(f"step failed at world time {time}"):
            rewards = world.step()
        shape = (len(world.agents), world.num_worlds)
        if rewards is not None:
            found.check_tensor("what step returns", rewards, shape)
            seen.append(rewards)
        elif world.rewards:
            found.add("rewards is true, and step returns none")
        ended = world.ended()
        if world.early_end and ended is not None and bool(ended.all()):
            break
    if length <= steps:
        with found.step("score failed"):
            scores = world.score()
        for name, score in scores.items():
            found.check_tensor(f"score {name}", score, (world.num_worlds,))
    return seen


def _due(world: World, length: int, found: Complaints) -> dict[str, set[int]]:
    with found.step("schedule failed"):
        schedule = world.schedule()
    if schedule is None:
        return {}
    for agent in world.agents:
        if agent not in schedule:
            found.fail(f"schedule() says nothing of {agent}")
        if not any(0 <= time < length for time in schedule[agent]):
            found.add(f"schedule() has no tick of {agent} in an episode of {length}")
    return {agent: {int(time) for time in times} for agent, times in schedule.items()}


def _tick(
    world: World,
    space: AgentSpaces,
    index: int,
    agent: str,
    rng: np.random.Generator,
    found: Complaints,
) -> Tensor:
    worlds = world.num_worlds
    with found.step(f"observe failed for {agent}"):
        observation = world.observe([index])
    shape = (1, worlds, *space.observation_shape)
    if not found.check_tensor(f"what {agent} observes", observation, shape):
        raise Stop
    with found.step(f"labels failed for {agent}"):
        labels: Any = world.labels([index])
    if labels is not None:
        what = f"the labels of {agent}"
        if space.action_size and not space.discrete:
            known = labels.nan_to_num() if isinstance(labels, Tensor) else labels
            found.check_tensor(what, known, (1, worlds, space.action_size))
        else:
            found.check_tensor(what, labels, (1, worlds), torch.int64)
    if space.action_size:
        if space.discrete:
            action = torch.from_numpy(rng.integers(space.action_size, size=(1, worlds)))
        else:
            action = torch.from_numpy(
                rng.uniform(-1, 1, (1, worlds, space.action_size)).astype(np.float32)
            )
        there = world.active()
        with found.step(f"act failed for {agent}"):
            world.act([index], action, None if there is None else there[[index]])
    return observation.clone()


def _check_masks(world: World, found: Complaints) -> None:
    shapes = {
        "active": (len(world.agents), world.num_worlds),
        "alive": (len(world.agents), world.num_worlds),
        "truncated": (len(world.agents), world.num_worlds),
        "ended": (world.num_worlds,),
    }
    for name, shape in shapes.items():
        with found.step(f"{name} failed"):
            mask = getattr(world, name)()
        if mask is not None:
            found.check_tensor(f"{name}()", mask, shape, torch.bool)
    if found:
        return
    truncated, alive = world.truncated(), world.alive()
    if truncated is not None and bool((truncated if alive is None else truncated & alive).any()):
        found.add("truncated() names agents that alive() says go on")
