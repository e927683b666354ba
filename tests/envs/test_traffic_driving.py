"""Policies that solve the traffic junction, and what it costs to have none."""

import itertools

import numpy as np
import pytest
import torch

from dnicomm.envs import Traffic
from dnicomm.envs.traffic_roads import LEVELS, routes

CPU = torch.device("cpu")
GAS, BRAKE = 0, 1
DOWN, RIGHTWARD = 0, 1  # routes of the easy level


def traffic(difficulty="easy", worlds=1, **own):
    world = Traffic(difficulty, **own).make(worlds, "train", CPU)
    world.reset(0, np.random.default_rng(0))
    return world


def everyone(world):
    return list(range(len(world.agents)))


def played(world, choose):
    """An episode with the actions that ``choose`` gives; cars that came, ``[B]``."""
    came = torch.zeros(world.num_worlds, dtype=torch.int64)
    for _ in range(world.horizon):
        world.act(everyone(world), choose(world), world.active())
        world.step()
        came += world.reborn().sum(0)
    return came


def longer_queue_first(world):
    """Easy level: where a car waits on both roads, the road with more cars before the crossing goes
    first, on a tie the vertical one; who has a car that stays in front of it stays too.
    """
    junction = 3
    before = world.there & (world.progress < junction)
    queue = torch.stack([(before & (world.route == road)).sum(0) for road in (DOWN, RIGHTWARD)])
    waits = [
        (world.there & (world.route == road) & (world.progress == junction - 1)).any(0)
        for road in (DOWN, RIGHTWARD)
    ]
    second = torch.where(queue[DOWN] >= queue[RIGHTWARD], RIGHTWARD, DOWN)  # [B]
    held = waits[DOWN] & waits[RIGHTWARD] & (world.route == second)
    stays = held & world.there & (world.progress == junction - 1)
    for _ in range(junction):
        # [i, j]: j is in the cell in front of i
        ahead = (world.progress[None] == world.progress[:, None] + 1) & (
            world.route[None] == world.route[:, None]
        )
        stays = stays | (world.there & (ahead & stays[None]).any(1))
    return stays.long()


def test_on_the_easy_level_the_longer_queue_first_never_collides_whoever_comes():
    """All that can be reached from empty roads, whichever cars come: no collision in any of it."""
    seen, fresh = {()}, [()]  # cars on the road as (route, progress)
    while fresh:
        world = traffic(worlds=4 * len(fresh), horizon=1)
        for b, state in enumerate(itertools.chain.from_iterable([s] * 4 for s in fresh)):
            world.arrivals[0, :, b] = torch.tensor([b % 4 > 1, b % 2 == 1])
            for car, (route, progress) in enumerate(state):
                world.there[car, b] = True
                world.route[car, b], world.progress[car, b] = route, progress
        world.act(everyone(world), longer_queue_first(world), None)
        world.step()
        assert world.score()["success"].all()
        fresh = []
        there, route, progress = (x.T.tolist() for x in (world.there, world.route, world.progress))
        for rows in zip(there, route, progress, strict=True):
            state = tuple(sorted((r, p) for here, r, p in zip(*rows, strict=True) if here))
            if state not in seen:
                seen.add(state)
                fresh.append(state)
    assert len(seen) == 2343


def test_on_the_easy_level_the_longer_queue_first_gets_cars_through():
    world = traffic(worlds=500)
    played(world, longer_queue_first)
    assert world.score()["success"].mean() == 1
    assert world.score()["through"].mean() > 6  # 6.56 if nobody ever brakes


class Reservations:
    """First come, first served, in one world: each car, as it comes, takes for itself the soonest
    way through which no car before it has taken, and waits on it as far ahead as it can.
    """

    def __init__(self, paths):
        self.paths, self.taken, self.ways = paths, set(), {}

    def come(self, car, route, now):
        path = self.paths[route]
        reached = [{0}]  # how far it can be, by time
        while len(path) not in reached[-1]:
            time = now + len(reached)
            ahead = {far + gas for far in reached[-1] for gas in (0, 1)}
            free = {far for far in ahead if (*path, None)[far] is None
                    or (path[far], time) not in self.taken}  # fmt: skip
            assert free, "there is no way through"
            reached.append(free)
        way = [len(path)]
        for possible in reached[-2::-1]:
            stays = way[-1] in possible and way[-1] < len(path)
            way.append(way[-1] if stays else way[-1] - 1)
        way.reverse()
        self.taken |= {(path[far], now + i) for i, far in enumerate(way[:-1])}
        self.ways[car] = now, way

    def action(self, car, now):
        came, way = self.ways[car]
        return BRAKE if way[now - came + 1] == way[now - came] else GAS


def first_come_first_served(difficulty, worlds):
    """A policy for one episode."""
    paths = [path for found in routes(LEVELS[difficulty]) for path in found]
    plans = [Reservations(paths) for _ in range(worlds)]

    def policy(world):
        actions = torch.zeros(len(world.agents), world.num_worlds, dtype=torch.int64)
        there, born, route = (x.T.tolist() for x in (world.there, world.entered, world.route))
        for b, plan in enumerate(plans):
            for car in sorted(everyone(world), key=route[b].__getitem__):
                if born[b][car]:
                    plan.come(car, route[b][car], world.time)
            for car in everyone(world):
                if there[b][car]:
                    actions[car, b] = plan.action(car, world.time)
        return actions

    return policy


@pytest.mark.parametrize(
    ("difficulty", "worlds", "through"), [("medium", 50, 15), ("hard", 15, 20)]
)
def test_first_come_first_served_never_collides(difficulty, worlds, through):
    world = traffic(difficulty, worlds)
    came = played(world, first_come_first_served(difficulty, worlds))
    assert world.score()["success"].tolist() == [1] * worlds
    still_there = world.there.sum(0)
    assert torch.equal(world.score()["through"], (came - still_there).float())
    assert world.score()["through"].mean() > through


@pytest.mark.parametrize(
    ("difficulty", "success"), [("easy", 0.31), ("medium", 0.04), ("hard", 0.08)]
)
def test_who_never_brakes_collides(difficulty, success):
    world = traffic(difficulty, 800)
    for _ in range(world.horizon):
        world.step()
    assert world.score()["success"].mean() == pytest.approx(success, abs=0.03)
