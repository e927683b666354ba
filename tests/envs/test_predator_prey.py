import functools
import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pettingzoo.test import (
    api_test,
    parallel_api_test,
    parallel_seed_test,
    render_test,
    seed_test,
    state_test,
)
from pettingzoo.utils.conversions import parallel_to_aec

from dnicomm.envs import PredatorPrey, clocked, predator_prey_v0
from dnicomm.errors import UserError
from dnicomm.sim import PoissonClock
from dnicomm.sim.world import AgentSpaces
from dnicomm.testing import check_env

CPU = torch.device("cpu")
UP, RIGHT, DOWN, LEFT, STAY = range(5)
MEDIUM: dict[str, Any] = {"num_agents": 5, "dim": 10, "vision": 1}
HARD = {"num_agents": 10, "dim": 20, "vision": 1}
SETTINGS = [
    {},
    MEDIUM,
    {"num_agents": 1, "dim": 2},
    {"vision": 3, "mode": "cooperative"},
    {"mode": "competitive", "horizon": 3},
    {"moving_prey": True, "vision": 1},
    {"link_range": 1, "dim": 4},
]
each_setting = pytest.mark.parametrize("settings", SETTINGS, ids=str)


def grid(worlds=8, **settings):
    return PredatorPrey(**settings).make(worlds, "train", CPU)


def begin(world, seed=0, episode=0):
    world.reset(episode, np.random.default_rng(seed))
    return world


def place(world, prey, *predators):
    """The same places in every world."""
    begin(world)
    world.prey = torch.tensor([prey] * world.num_worlds)
    world.places = torch.tensor([[p] * world.num_worlds for p in predators])
    return world


def everyone(world):
    return list(range(len(world.agents)))


def move(world, *actions):
    """One step under an action each, the same in every world; rewards of the first world."""
    chosen = torch.tensor(actions)[:, None].expand(-1, world.num_worlds)
    world.act(everyone(world), chosen, None)
    return pytest.approx(world.step()[:, 0].tolist())


def hear(world):
    """Channels between all pairs of predators, ``[n, n, B]`` bool: (sender, receiver)."""
    n = len(world.agents)
    pairs = list(itertools.permutations(range(n), 2))
    senders, receivers = (list(side) for side in zip(*pairs, strict=True))
    is_open = world.open_edges(senders, receivers)
    heard = torch.zeros(n, n, world.num_worlds, dtype=torch.bool)
    heard[senders, receivers] = is_open
    return heard


# -- who is who --------------------------------------------------------------------------------


def test_what_they_see_and_do():
    world = grid(num_agents=3, dim=5, vision=1)
    assert world.agents == ("predator_0", "predator_1", "predator_2")
    assert {world.spaces(agent) for agent in world.agents} == {AgentSpaces((25 + 9 * 3,), 5)}
    assert world.edges is None
    assert world.rewards
    assert world.early_end
    assert world.message_lifetime is None
    kinds = {name: (field.size, field.kind) for name, field in world.context_fields.items()}
    assert kinds == {"prey": (10, "causal"), "state": (4 * 10 + 3 + 1, "causal")}
    assert not grid(mode="cooperative").early_end


@pytest.mark.parametrize(
    ("settings", "horizon"), [({}, 20), (MEDIUM, 40), (HARD, 80), ({"horizon": 7}, 7)]
)
def test_episodes_are_as_long_as_in_the_paper_or_as_told(settings, horizon):
    assert begin(grid(**settings)).episode_length() == horizon


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_agents": 0}, "env.num_agents=0: must be a whole number of at least 1"),
        ({"dim": 1}, "env.dim=1: must be a whole number of at least 2"),
        ({"vision": -1}, "env.vision=-1: must be a whole number of at least 0"),
        ({"vision": None}, "env.vision=None: must be a whole number of at least 0"),
        ({"horizon": 0}, "env.horizon=0: must be a whole number of at least 1"),
        ({"link_range": 1.5}, "env.link_range=1.5: must be a whole number of at least 0"),
        ({"moving_prey": 1}, "env.moving_prey=1: must be true or false"),
        ({"mode": "mixd"}, "env.mode=mixd: there is no such mode. Did you mean 'mixed'?"),
        (
            {"num_agents": 4, "dim": 2},
            "env.num_agents=4: must be at most 3, so that they and the prey start on different "
            "cells of env.dim=2",
        ),
    ],
    ids=str,
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(UserError) as refused:
        PredatorPrey(**settings)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


@each_setting
def test_keeps_the_contract_of_environments(settings):
    assert check_env(PredatorPrey(**settings)) == []


# -- what is random ----------------------------------------------------------------------------


@each_setting
def test_all_start_on_different_cells_of_the_grid(settings):
    world = begin(grid(200, **settings))
    everybody = torch.cat([world.places, world.prey[None]])  # [n + 1, B, 2]
    assert everybody.min() >= 0
    assert everybody.max() < world.dim
    cells = everybody[..., 0] * world.dim + everybody[..., 1]
    assert all(len(set(column)) == len(column) for column in cells.T.tolist())
    assert len({tuple(column) for column in cells.T.tolist()}) > 1


def test_every_start_is_equally_likely():
    world = begin(grid(48_000, num_agents=2, dim=2))
    cells = torch.cat([world.places, world.prey[None]]) @ torch.tensor([2, 1])  # [3, B]
    starts, counts = torch.unique(cells, dim=1, return_counts=True)
    assert starts.shape == (3, 24)
    torch.testing.assert_close(counts / 48_000, torch.full((24,), 1 / 24), atol=0.005, rtol=0)


@each_setting
def test_an_episode_follows_from_the_generator(settings):
    def play(world, seed):
        begin(world, seed)
        rng, seen = np.random.default_rng(0), []
        for _ in range(world.horizon):
            actions = rng.integers(5, size=(len(world.agents), 8))
            world.act(everyone(world), torch.from_numpy(actions), None)
            seen += [world.observe(everyone(world)), world.context("state"), world.step()]
        return seen

    one, other = grid(**settings), grid(**settings)
    play(one, 9)
    for a, b in zip(play(one, 1), play(other, 1), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(play(one, 1)[1], play(other, 2)[1])


@pytest.mark.parametrize("moving", [False, True])
def test_more_worlds_change_nothing_in_the_first_ones(moving):
    few, many = grid(4, moving_prey=moving), grid(9, moving_prey=moving)
    begin(few, 3)
    begin(many, 3)
    for _ in range(20):
        assert torch.equal(few.places, many.places[:, :4])
        assert torch.equal(few.prey, many.prey[:4])
        few.step()
        many.step()


# -- what is seen ------------------------------------------------------------------------------


def naive(world, agent, b):
    """What a predator sees, cell by cell."""
    row, column = world.places[agent, b].tolist()
    places = [tuple(place) for place in world.places[:, b].tolist()]
    own = [float(c == row * world.dim + column) for c in range(world.dim**2)]
    sight = range(-world.vision, world.vision + 1)
    for r, c in itertools.product(sight, sight):
        cell = (row + r, column + c)
        outside = not all(0 <= x < world.dim for x in cell)
        prey = cell == tuple(world.prey[b].tolist())
        own += [float(outside), float(places.count(cell)), float(prey)]
    return own


@each_setting
def test_what_is_seen_is_what_is_near(settings):
    world = begin(grid(6, **settings), 4)
    rng = np.random.default_rng(1)
    for _ in range(min(world.horizon, 8)):
        seen = world.observe(everyone(world))
        assert seen.dtype == torch.float32
        for agent, b in itertools.product(everyone(world), range(6)):
            assert seen[agent, b].tolist() == naive(world, agent, b)
        assert torch.equal(world.observe([len(world.agents) - 1])[0], seen[-1])
        actions = rng.integers(5, size=(len(world.agents), 6))
        world.act(everyone(world), torch.from_numpy(actions), None)
        world.step()


def test_what_lies_outside_and_who_is_where():
    world = place(grid(2, num_agents=3, dim=3, vision=1), (0, 2), (0, 0), (0, 0), (1, 1))
    seen = world.observe([0])[0, 0]
    assert seen[:9].tolist() == [1] + [0] * 8
    outside, predators, prey = seen[9:].reshape(3, 3, 3).unbind(-1)
    assert outside.tolist() == [[1, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert predators.tolist() == [[0, 0, 0], [0, 2, 0], [0, 0, 1]]
    assert not bool(prey.any())  # it is two cells away
    prey = world.observe([2])[0, 0, 9:].reshape(3, 3, 3)[..., 2]
    assert prey.tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_facts_hold_everything():
    world = place(grid(2, num_agents=2, dim=3, horizon=4), (2, 1), (0, 0), (2, 2))
    assert world.context("prey").tolist() == [[0, 0, 1, 0, 1, 0]] * 2
    move(world, DOWN, LEFT)
    places = [[0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 1, 0], [0, 0, 1, 0, 1, 0]]
    state = [*itertools.chain(*places), 0, 1, 0.25]
    assert world.context("state").tolist() == [state] * 2


# -- moves, rewards, ends ----------------------------------------------------------------------


def test_moves_and_walls():
    world = place(grid(1, num_agents=1, dim=3), (2, 2), (0, 0))
    route = [UP, LEFT, RIGHT, RIGHT, RIGHT, DOWN, STAY, LEFT]
    cells = [(0, 0), (0, 0), (0, 1), (0, 2), (0, 2), (1, 2), (1, 2), (1, 1)]
    for action, cell in zip(route, cells, strict=True):
        move(world, action)
        assert tuple(world.places[0, 0].tolist()) == cell


def test_an_action_holds_until_the_next_and_none_is_to_stay():
    world = place(grid(2, num_agents=2, dim=5), (4, 4), (0, 0), (2, 2))
    world.step()
    assert world.places[:, 0].tolist() == [[0, 0], [2, 2]]
    world.act([1], torch.tensor([[UP, UP]]), torch.tensor([[True, False]]))
    world.step()
    world.step()
    assert world.places.tolist() == [[[0, 0]] * 2, [[0, 2], [2, 2]]]


def test_who_is_at_the_prey_stays_there():
    world = place(grid(1, num_agents=2, dim=4), (1, 1), (0, 1), (3, 3))
    move(world, DOWN, STAY)
    for action in (UP, RIGHT, DOWN, LEFT):
        move(world, action, STAY)
        assert world.places[0, 0].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("mode", "alone", "both"),
    [("mixed", 0, 0), ("cooperative", 0.05, 0.1), ("competitive", 0.05, 0.025)],
)
def test_what_being_there_is_worth(mode, alone, both):
    world = place(grid(1, num_agents=2, dim=4, mode=mode, horizon=6), (0, 0), (0, 1), (1, 1))
    assert move(world, STAY, STAY) == [-0.05, -0.05]
    assert move(world, LEFT, STAY) == [alone, -0.05]
    assert move(world, STAY, LEFT) == [alone, -0.05]
    assert move(world, STAY, UP) == [both, both]
    over = mode == "mixed"  # elsewhere they get it to the end
    assert world.ended() is None or world.ended().tolist() == [over]
    assert (world.ended() is None) is not over
    for _ in range(2):
        assert move(world, DOWN, DOWN) == [0 if over else both] * 2
    own = [-0.05 + 2 * alone + 3 * both, -0.15 + 3 * both]
    assert world.score()["return"].item() == pytest.approx(sum(own) / 2)
    assert world.score()["success"].item() == 1
    assert world.score()["steps"].item() == 4


def test_who_never_arrives_pays_to_the_end():
    world = begin(grid(3))
    for _ in range(20):
        assert not bool(world.ended().any())
        world.step()
    assert bool(world.ended().all())
    scores = world.score()
    assert scores["return"].tolist() == pytest.approx([-1] * 3)
    assert scores["success"].tolist() == [0] * 3
    assert scores["steps"].tolist() == [20] * 3


@pytest.mark.parametrize("mode", ["mixed", "cooperative", "competitive"])
def test_worlds_are_apart(mode):
    """One world played beside others gives what it gives alone."""
    rng = np.random.default_rng(0)
    actions = torch.from_numpy(rng.integers(5, size=(20, 3, 6)))

    def rewards(worlds):
        world = begin(grid(6, mode=mode, vision=1), 2)
        for name in ("places", "action", "there", "total", "distance"):
            setattr(world, name, getattr(world, name)[:, worlds])
        for name in ("prey", "steps", "wander"):
            setattr(world, name, getattr(world, name)[worlds])
        world.num_worlds = len(worlds)
        found = []
        for action in actions:
            world.act([0, 1, 2], action[:, worlds], None)
            found.append(world.step())
        return torch.stack(found)

    together = rewards([0, 1, 2, 3, 4, 5])
    for b in range(6):
        assert torch.equal(rewards([b])[..., 0], together[..., b])


def test_a_moving_prey_wanders_until_somebody_is_there():
    world = begin(grid(300, num_agents=2, dim=4, moving_prey=True, horizon=30))
    walked, before = set(), world.prey
    for _ in range(30):
        found = world.there.any(0)
        chosen = torch.randint(5, (2, 300), generator=torch.Generator().manual_seed(world.time))
        world.act([0, 1], chosen, None)
        world.step()
        assert torch.equal(world.prey[found], before[found])
        walked |= {tuple(d) for d in (world.prey - before)[~found].tolist()}
        assert torch.equal(world.there, (world.places == world.prey).all(-1))
        before = world.prey
    assert walked == {(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)}
    assert 0 < world.there.float().mean() < 1


# -- who hears whom ----------------------------------------------------------------------------


def test_all_hear_each_other_without_a_range():
    assert begin(grid()).open_edges([0, 1], [1, 2]) is True


@pytest.mark.parametrize("link_range", [0, 1, 2, 4])
def test_within_a_range_those_hear_who_are_near(link_range):
    world = begin(grid(50, num_agents=4, dim=5, link_range=link_range), 6)
    heard = hear(world)
    for a, b in itertools.permutations(range(4), 2):
        for number, (p, q) in enumerate(zip(*world.places[[a, b]].tolist(), strict=True)):
            near = all(abs(x - y) <= link_range for x, y in zip(p, q, strict=True))
            assert bool(heard[a, b, number]) is near
    assert torch.equal(heard, heard.transpose(0, 1))
    assert bool(heard.any()) is (link_range > 0)  # nobody starts where another one does


# -- what can be reached -----------------------------------------------------------------------


def expected_farthest(agents, dim):
    """Mean distance from the prey of the farthest of some predators on different cells."""
    cells, total = list(itertools.product(range(dim), repeat=2)), 0.0
    for prey in cells:
        near = [0] * (2 * dim)  # other cells within a distance
        for cell in cells:
            distance = sum(abs(x - y) for x, y in zip(prey, cell, strict=True))
            for k in range(distance, 2 * dim) if distance else ():
                near[k] += 1
        every = math.comb(len(cells) - 1, agents)
        total += sum(1 - math.comb(within, agents) / every for within in near)
    return total / len(cells)


@pytest.mark.parametrize(("agents", "dim"), [(1, 3), (2, 4), (3, 5), (5, 10)])
def test_the_farthest_and_the_mean_distance_are_those_of_theory(agents, dim):
    world = begin(grid(40_000, num_agents=agents, dim=dim), 1)
    assert world.distance.float().mean().item() == pytest.approx(2 * dim / 3, rel=0.02)
    expected = expected_farthest(agents, dim)
    assert world.score()["distance"].mean().item() == pytest.approx(expected, rel=0.02)


def step_to(own, target):
    """An action that brings one nearer, for places ``[…, 2]``: rows first."""
    row, column = (target - own).unbind(-1)
    sideways = torch.where(column > 0, RIGHT, torch.where(column < 0, LEFT, STAY))
    return torch.where(row < 0, UP, torch.where(row > 0, DOWN, sideways))


@pytest.mark.parametrize("mode", ["mixed", "cooperative", "competitive"])
def test_who_knows_where_the_prey_is_needs_its_distance(mode):
    world = begin(grid(200, mode=mode), 3)
    for _ in range(20):
        world.act([0, 1, 2], step_to(world.places, world.prey), None)
        world.step()
    scores = world.score()
    assert torch.equal(scores["steps"], scores["distance"])
    assert bool(scores["success"].all())
    if mode == "mixed":  # the best that there is: each one pays until it is there
        best = -0.05 * (world.distance.float() - 1).mean(0)
        torch.testing.assert_close(scores["return"], best)


class Team:
    """Predators that share out the cells nobody has seen, and meet where the prey was seen.

    Each tells all the others, once a step: where it is, what it has seen or been told, and the
    prey if it knows. What is told is known one step later.
    """

    def __init__(self, world):
        n, worlds, cells = len(world.agents), world.num_worlds, world.dim**2
        self.world = world
        self.seen = torch.zeros(n, worlds, cells, dtype=torch.bool)  # by own eyes or told
        self.prey = torch.full((n, worlds), -1)  # a cell; -1: unknown
        self.others = torch.full((n, n, worlds), -1)  # cells of others, as told
        every = torch.arange(cells)
        self.cells = torch.stack([every // world.dim, every % world.dim], -1)

    def look(self):
        """From observations alone: the own cell, what is in sight of it."""
        dim, vision = self.world.dim, self.world.vision
        seen = self.world.observe(everyone(self.world))
        self.own = seen[..., : dim**2].argmax(-1)  # [n, B]
        side = 2 * vision + 1
        sight = seen[..., dim**2 :].reshape(*self.own.shape, side**2, 3)
        steps = torch.cartesian_prod(torch.arange(side), torch.arange(side)) - vision
        near = self.cells[self.own][..., None, :] + steps  # [n, B, cells in sight, 2]
        inside = sight[..., 0] == 0
        cell = torch.where(inside, near[..., 0] * dim + near[..., 1], self.own[..., None])
        self.seen.scatter_(-1, cell, True)
        shows = sight[..., 2] > 0
        found = (cell * shows).amax(-1)
        self.prey = torch.where(shows.any(-1), found, self.prey)

    def choose(self):
        here = self.cells[self.own]  # [n, B, 2]
        n = len(here)
        away = (here[..., None, :] - self.cells).abs().sum(-1)  # [n, B, cells]
        others = self.cells[self.others.clamp(min=0)]  # [n, n, B, 2]
        theirs = (others[..., None, :] - self.cells).abs().sum(-1)
        rank = torch.arange(n)
        tie = (rank[None, :] < rank[:, None])[..., None, None]
        nearer = (theirs < away[:, None]) | ((theirs == away[:, None]) & tie)
        nearer &= (self.others >= 0)[..., None]
        someone = nearer.any(1)  # another one will go there
        # the nearest; sooner one that would be left behind alone
        grid = F.pad((~self.seen).float().unflatten(-1, (self.world.dim, -1)), [1] * 4)
        inner = slice(1, -1)
        beside = (grid[..., :-2, inner] + grid[..., 2:, inner]) + (
            grid[..., inner, :-2] + grid[..., inner, 2:]
        )
        cost = away + 0.3 * beside.flatten(-2) + 1000 * someone + 10_000 * self.seen
        target = torch.where(self.prey >= 0, self.prey, cost.argmin(-1))
        return step_to(here, self.cells[target])

    def listen(self, heard):
        """``heard`` ``[n, n, B]``: what was said before the last step arrives."""
        n = len(self.own)
        seen, prey, own = self.seen.clone(), self.prey.clone(), self.own.clone()
        for a, b in itertools.permutations(range(n), 2):
            mask = heard[a, b]
            self.seen[b] |= seen[a] & mask[:, None]
            knows = mask & (prey[a] >= 0)
            self.prey[b] = torch.where(knows, prey[a], self.prey[b])
            self.others[b, a] = torch.where(mask, own[a], self.others[b, a])

    def play(self):
        world = self.world
        for _ in range(world.horizon):
            self.look()
            world.act(everyone(world), self.choose(), None)
            heard = hear(world)
            world.step()
            self.listen(heard)
        return {name: score.mean().item() for name, score in world.score().items()}


@pytest.mark.parametrize(
    ("settings", "success"),
    [({}, 0.995), ({"horizon": 24}, 1), ({"mode": "cooperative", "horizon": 24}, 1), (MEDIUM, 1)],
    ids=str,
)
def test_a_team_that_shares_what_it_knows_finds_it(settings, success):
    scores = Team(begin(grid(200, **settings), 5)).play()
    assert scores["success"] >= success
    assert scores["distance"] < scores["steps"] < 2.3 * scores["distance"]


def test_a_team_whose_words_do_not_carry_is_slower():
    steps = [
        Team(begin(grid(100, link_range=link_range, **MEDIUM), 5)).play()["steps"]
        for link_range in (None, 2, 0)
    ]
    assert steps == sorted(steps)
    assert steps[-1] > 1.5 * steps[0]


# -- as PettingZoo -----------------------------------------------------------------------------

FORMS = {
    "easy": functools.partial(predator_prey_v0.parallel_env),
    "medium": functools.partial(predator_prey_v0.parallel_env, **MEDIUM),
    "cooperative": functools.partial(
        predator_prey_v0.parallel_env, mode="cooperative", moving_prey=True, horizon=6
    ),
}
forms = pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)


@forms
def test_passes_the_official_tests(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(make(), num_cycles=60)
        parallel_seed_test(make, num_cycles=60)
        state_test(parallel_to_aec(make()), make(), num_cycles=20)
        for form in (predator_prey_v0.env, predator_prey_v0.raw_env):
            in_turns = functools.partial(form, **make.keywords)
            api_test(in_turns(), num_cycles=60)
            seed_test(in_turns, num_cycles=60)
            render_test(in_turns)


def test_passes_the_official_tests_at_clocks_of_its_own():
    def at_own_times(**mode):
        return clocked(predator_prey_v0.parallel_env(**mode), PoissonClock(0.5))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        api_test(at_own_times(), num_cycles=60)
        seed_test(at_own_times, num_cycles=60)


def test_rewards_state_and_end():
    env = predator_prey_v0.parallel_env(num_agents=2, dim=3)
    env.reset(seed=0)
    place(env.world, (0, 0), (0, 1), (2, 0))
    moves = {"predator_0": LEFT, "predator_1": UP}
    _, rewards, ended, cut_off, _ = env.step(moves)
    assert rewards == pytest.approx({"predator_0": 0, "predator_1": -0.05})
    assert set(ended.values()) == {False}
    assert env.state_space.contains(env.state())
    assert env.state()[-(3 * 6 + 3) :].tolist() == env.world.context("state")[0].tolist()
    assert env.state().shape == (2 * (9 + 3) + 3 * 6 + 3,)
    _, rewards, ended, cut_off, _ = env.step(moves)
    assert rewards == {"predator_0": 0, "predator_1": 0}
    assert set(ended.values()) == {True}
    assert set(cut_off.values()) == {False}
    assert env.agents == []


def test_a_picture_shows_the_grid():
    env = predator_prey_v0.parallel_env(num_agents=2, dim=3, render_mode="ansi")
    env.reset(seed=0)
    place(env.world, (0, 0), (0, 1), (2, 0))
    env.step({"predator_0": LEFT, "predator_1": STAY})
    assert env.render().splitlines() == [
        "predator_prey_v0  time 1 of 12",
        "@@....",
        "......",
        "++....",
        "predator_0: 3",
        "predator_1: 4",
    ]
