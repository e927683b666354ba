import functools
import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo.test import (
    api_test,
    parallel_api_test,
    parallel_seed_test,
    render_test,
    seed_test,
    state_test,
)
from pettingzoo.utils.conversions import parallel_to_aec

from dnicomm.agents import Agent, RecurrentActorCritic
from dnicomm.envs import Traffic, clocked, traffic_v0
from dnicomm.envs.traffic_roads import LEVELS, routes
from dnicomm.errors import UserError
from dnicomm.sim import Evaluation, PeriodicClock, PoissonClock, Simulation, TickOutput
from dnicomm.sim.world import AgentSpaces
from dnicomm.testing import check_env

CPU = torch.device("cpu")
GAS, BRAKE = 0, 1
DOWN, RIGHTWARD = 0, 1  # entries of the easy level, and the route from each
each_level = pytest.mark.parametrize("difficulty", LEVELS)


def traffic(difficulty="easy", worlds=1, **own):
    return Traffic(difficulty, **own).make(worlds, "train", CPU)


def begin(world, seed=0, episode=0):
    world.reset(episode, np.random.default_rng(seed))
    return world


def quiet(world, *arrivals):
    """An episode in which only these cars come, to the first free place: (time, entry, choice)."""
    begin(world)
    world.arrivals[:] = False
    world.places[:] = torch.linspace(0, 0.9, len(world.agents))[None, :, None]
    for time, entry, *choice in arrivals:
        world.arrivals[time, entry] = True
        world.choice[time, entry] = world.choices * entry + (choice[0] if choice else 0)
    return world


def drive(world, *brakes):
    """One step in which the cars at the places ``brakes`` brake; the rewards of world 0."""
    actions = torch.zeros(len(world.agents), world.num_worlds, dtype=torch.int64)
    actions[list(brakes)] = BRAKE
    world.act(everyone(world), actions, None)
    return world.step()[:, 0].tolist()


def everyone(world):
    return list(range(len(world.agents)))


def at(world, car, b=0):
    """Row and column of a car; None: it is not on the road."""
    return tuple(world.place[world.cell[car, b]].tolist()) if world.there[car, b] else None


def played(world, choose):
    """An episode with the actions that ``choose`` gives; what each step began and ended with."""
    steps = []
    for _ in range(world.horizon):
        before = world.active().clone()
        world.act(everyone(world), choose(world), before)
        rewards = world.step()
        steps.append((before, rewards, world.alive().clone(), world.reborn().clone()))
    return steps


def at_random(seed, share=0.3):
    rng = np.random.default_rng(seed)

    def choose(world):
        shape = len(world.agents), world.num_worlds
        return torch.from_numpy((rng.random(shape) < share).astype(np.int64))

    return choose


# -- the levels ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("difficulty", "entry_points", "from_each", "cells", "cars", "time", "arrival"),
    [
        ("easy", 2, 1, 2 * 7 - 1, 5, 20, 0.3),
        ("medium", 4, 3, 4 * 14 - 4, 10, 40, 0.2),
        ("hard", 8, 7, 8 * 18 - 16, 20, 80, 0.05),
    ],
)
def test_the_levels(difficulty, entry_points, from_each, cells, cars, time, arrival):
    found = routes(LEVELS[difficulty])
    assert [len(paths) for paths in found] == [from_each] * entry_points
    world = traffic(difficulty)
    assert (len(world.agents), world.horizon, world.arrival) == (cars, time, arrival)
    assert world.agents[0] == "car_0"
    assert world.agents[-1] == f"car_{cars - 1}"
    size = 1 + entry_points * from_each + cells + 2
    assert {world.spaces(a) for a in world.agents} == {AgentSpaces((size,), 2)}
    assert world.edges is None
    assert world.schedule() is world.ended() is None


# -- a car's life ------------------------------------------------------------------------------


def test_a_car_comes_drives_and_leaves():
    world = quiet(traffic(), (2, RIGHTWARD))
    for _ in range(2):
        assert drive(world) == [0] * 5
        assert not world.active().any()
    assert drive(world) == [0] * 5  # nothing for the step in which it comes
    assert [at(world, car) for car in everyone(world)] == [(3, 0), None, None, None, None]
    for column in range(1, 7):
        assert drive(world) == pytest.approx([-0.01 * column, 0, 0, 0, 0])
        assert at(world, 0) == (3, column)
    assert world.score()["through"].tolist() == [0]
    assert drive(world) == [0] * 5  # nothing for the step in which it leaves
    assert at(world, 0) is None
    scores = {name: score.item() for name, score in world.score().items()}
    expected = {"success": 1, "collisions": 0, "through": 1, "return": -0.01 * 21 / 5}
    assert scores == pytest.approx(expected)


@each_level
def test_the_way_of_one_car_costs_what_theory_says(difficulty):
    length = len(routes(LEVELS[difficulty])[1][0])
    world = quiet(traffic(difficulty), (0, 1, 0))
    total = sum(sum(drive(world)) for _ in range(world.horizon))
    assert total == pytest.approx(-0.01 * length * (length - 1) / 2, rel=1e-5)


def test_who_brakes_stays_and_pays():
    world = quiet(traffic(), (0, DOWN))
    drive(world)
    drive(world)
    assert drive(world, 0)[0] == pytest.approx(-0.02)
    assert drive(world, 0)[0] == pytest.approx(-0.03)
    assert at(world, 0) == (1, 3)
    assert drive(world)[0] == pytest.approx(-0.04)
    assert at(world, 0) == (2, 3)


def test_an_action_holds_until_the_next_and_a_new_car_is_on_gas():
    world = quiet(traffic(), (0, DOWN), (9, RIGHTWARD))
    world.act([0], torch.tensor([[BRAKE]]), None)  # said before there is a car: nothing
    world.step()
    world.step()
    assert at(world, 0) == (1, 3)
    world.act([0], torch.tensor([[BRAKE]]), None)
    for _ in range(3):
        world.step()
    assert at(world, 0) == (1, 3)
    world.act([0, 1], torch.tensor([[GAS], [BRAKE]]), None)
    for _ in range(9):
        world.step()
    assert at(world, 0) is None
    assert at(world, 1) == (3, 4)  # it came at time 9


def test_an_action_where_a_car_is_not_active_is_none():
    world = quiet(traffic(worlds=3), (0, DOWN))
    drive(world)
    world.act([0], torch.full((1, 3), BRAKE), torch.tensor([[True, False, True]]))
    world.step()
    assert [at(world, 0, b) for b in range(3)] == [(0, 3), (1, 3), (0, 3)]


# -- collisions --------------------------------------------------------------------------------


def test_two_at_the_crossing_collide():
    world = quiet(traffic(), (0, DOWN), (0, RIGHTWARD))
    for _ in range(3):
        drive(world)
    assert world.score()["success"].tolist() == [1]
    assert drive(world) == pytest.approx([-10.03, -10.03, 0, 0, 0])
    assert at(world, 0) == at(world, 1) == (3, 3)
    # each step anew, for as long as they are in one cell; and it holds nobody up
    assert drive(world, 0, 1) == pytest.approx([-10.04, -10.04, 0, 0, 0])
    assert drive(world, 0) == pytest.approx([-0.05, -0.05, 0, 0, 0])
    assert [at(world, 0), at(world, 1)] == [(3, 3), (3, 4)]
    score = world.score()
    assert (score["success"].item(), score["collisions"].item()) == (0, 4)


def test_one_who_gives_way_at_the_crossing_does_not_collide():
    world = quiet(traffic(), (0, DOWN), (0, RIGHTWARD))
    for _ in range(3):
        drive(world)
    drive(world, 1)
    for _ in range(5):
        drive(world)
    score = world.score()
    assert (score["success"].item(), score["collisions"].item(), score["through"].item()) == (
        1,
        0,
        2,
    )


def test_who_runs_into_the_one_ahead_collides():
    world = quiet(traffic(), (0, DOWN), (1, DOWN))
    drive(world)
    drive(world)
    assert [at(world, 0), at(world, 1)] == [(1, 3), (0, 3)]
    assert drive(world, 0)[:2] == pytest.approx([-10.02, -10.01])
    assert at(world, 1) == (1, 3)


def test_who_waits_at_an_entry_is_run_into():
    world = quiet(traffic(), (0, DOWN), (1, DOWN), (2, DOWN))
    drive(world)
    assert drive(world, 0)[:2] == pytest.approx([-10.01, -10])
    assert drive(world, 0, 1)[:3] == pytest.approx([-10.02, -10.01, -10])  # three in one cell
    assert world.score()["collisions"].tolist() == [5]


def test_those_who_come_against_each_other_pass():
    """On the medium level down and up go in lanes side by side, and left turns cross them."""
    straight, left = 0, 2
    world = quiet(traffic("medium"), (0, 0, straight), (0, 1, straight))
    for _ in range(20):
        drive(world)
    assert world.score()["through"].tolist() == [2]
    assert world.score()["success"].tolist() == [1]
    world = quiet(traffic("medium"), (0, 0, left), (0, 1, left))  # one behind the other's tail
    for _ in range(20):
        drive(world)
    assert world.score()["success"].tolist() == [1]
    world = quiet(traffic("medium"), (0, 0, left), (2, 1, straight))
    for _ in range(20):
        drive(world)
    assert world.score()["collisions"].tolist() == [2]


def test_worlds_are_apart():
    alone, other = begin(traffic(worlds=4), 1), begin(traffic(worlds=4), 1)
    choose = at_random(0)
    for _ in range(alone.horizon):
        actions = choose(alone)
        alone.act(everyone(alone), actions, None)
        changed = actions.clone()
        changed[:, 0] = 1 - changed[:, 0]
        other.act(everyone(other), changed, None)
        rewards, others = alone.step(), other.step()
        assert torch.equal(rewards[:, 1:], others[:, 1:])
        seen, seen_there = alone.observe(everyone(alone)), other.observe(everyone(other))
        assert torch.equal(seen[:, 1:], seen_there[:, 1:])
        assert torch.equal(alone.context("state")[1:], other.context("state")[1:])
    assert not torch.equal(alone.score()["return"], other.score()["return"])


# -- places and lives --------------------------------------------------------------------------


def test_there_are_never_more_cars_than_places():
    world = begin(traffic(num_agents=3, arrival=1.0, worlds=6))
    world.step()
    assert world.there.sum(0).tolist() == [2] * 6
    world.step()
    assert world.there.sum(0).tolist() == [3] * 6
    entered = world.reborn()
    assert (world.route[entered] == DOWN).all()  # for two there was one place: the first entry's


def test_a_place_is_taken_again_one_step_after_it_was_left():
    world = quiet(traffic(num_agents=2), (0, DOWN), (7, DOWN), (8, DOWN), (9, RIGHTWARD))
    for _ in range(7):
        drive(world)
    assert at(world, 0) == (6, 3)
    drive(world)  # it leaves, and another one comes to the place that was free before
    assert [at(world, 0), at(world, 1)] == [None, (0, 3)]
    assert world.alive().tolist() == [[False], [True]]
    assert world.reborn().tolist() == [[False], [True]]
    drive(world)
    assert [at(world, 0), at(world, 1)] == [(0, 3), (1, 3)]
    assert world.alive().tolist() == [[True], [True]]
    assert world.reborn().tolist() == [[True], [False]]
    drive(world)  # both places are taken: who comes is turned away
    assert [at(world, 0), at(world, 1)] == [(1, 3), (2, 3)]
    assert world.reborn().tolist() == [[False], [False]]
    for _ in range(5):
        drive(world)
    assert world.score()["through"].tolist() == [2]


def test_a_new_car_knows_nothing_of_the_one_before_it():
    world = quiet(traffic(num_agents=2), (0, DOWN), (12, RIGHTWARD))
    drive(world)
    for braking in ((), (0,), (0,), (), (), (), (), (), ()):
        drive(world, *braking)
    assert at(world, 0) is None
    assert not world.observe([0]).any()
    world.act([0], torch.tensor([[BRAKE]]), None)
    for _ in range(3):
        world.step()
    fresh = quiet(traffic(num_agents=2), (0, RIGHTWARD))
    fresh.step()
    assert torch.equal(world.observe([0]), fresh.observe([0]))
    assert world.step()[0].item() == pytest.approx(-0.01)
    assert at(world, 0) == (3, 1)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(list(LEVELS)), st.integers(0, 10**6), st.integers(2, 6), st.floats(0.05, 1.0)
)
def test_no_value_flows_from_one_life_to_another(difficulty, seed, cars, arrival):
    """Credit as the engine gives it equals each life's own rewards, summed life by life."""
    world = traffic(difficulty, 3, num_agents=cars, arrival=arrival, horizon=30)
    begin(world, seed)
    steps = played(world, at_random(seed, 0.2))
    there = torch.stack([before for before, *_ in steps] + [steps[-1][2]])  # [T + 1, N, B]
    alive, born = (torch.stack([step[i] for step in steps]) for i in (2, 3))
    rewards = torch.stack([step[1] for step in steps])
    assert torch.equal(alive, there[1:])
    # a life begins where there was none, and is told at once: between two is a time without
    assert torch.equal(born, there[1:] & ~there[:-1])
    gamma = 0.9
    credit = torch.zeros_like(rewards)
    future = torch.zeros_like(rewards[0])
    for t in reversed(range(len(steps))):
        future = rewards[t] + gamma * torch.where(alive[t], future, 0.0)
        credit[t] = future
    for car, b in itertools.product(range(cars), range(3)):
        own, lasting = 0.0, False
        for t in reversed(range(len(steps))):
            if not there[t, car, b]:
                lasting = False
                continue
            own = rewards[t, car, b].item() + (gamma * own if lasting else 0.0)
            lasting = True
            assert credit[t, car, b].item() == pytest.approx(own, abs=1e-4)


class Remembers(Agent):
    """Counts its ticks, and remembers how many messages it had heard at the first one."""

    def initial_state(self, num_worlds):
        return torch.zeros(num_worlds, 2)

    def tick(self, observation, inbox, state):
        ticks, first = state.unbind(-1)
        first = torch.where(ticks == 0, inbox.mask.sum(-1).float(), first)
        flat = observation.new_zeros(observation.shape[0], self.spec.message_size)
        action = observation.new_zeros(observation.shape[0], 2)
        return TickOutput(action, flat, torch.stack([ticks + 1, first], -1))


@pytest.mark.parametrize(("window", "link_range"), [(1, None), (7, None), (7, 6)])
def test_in_a_run_each_life_has_a_memory_of_its_own(window, link_range):
    """And hears at once who spoke while it came, unless it was out of reach then."""
    env = Traffic(num_agents=3, arrival=0.5, message_lifetime=1, link_range=link_range)
    simulation = Simulation(
        env=env, agent=Remembers, clock=PeriodicClock(1),
        window=window, num_worlds=6, normalise=False,
    )  # fmt: skip
    world, told, before = simulation.world, [], [torch.zeros(3, 6, dtype=torch.bool)]
    heard = torch.zeros(3, 6)
    step = world.step

    def looking_on():
        there = world.active()
        state = simulation.engine.last_state(simulation.engine.lanes[0])  # [N, B, 2]
        assert torch.equal(state[..., 0][there], world.waited[there] + 1.0)
        new = world.reborn()
        others = before[-1].sum(0) - before[-1].long()  # who spoke when it was on its way
        heard[new] = 0.0 if link_range else others[new].float()
        assert torch.equal(state[..., 1][there], heard[there])
        before.append(there)
        told.append(new.sum().item())
        return step()

    world.step = looking_on
    with torch.no_grad():
        simulation.engine.learn = False
        simulation.engine.play(0)
    assert sum(told) > 6 * 3  # places had several lives


# -- what cars see, and whom they reach --------------------------------------------------------


def test_what_a_car_sees():
    world = quiet(traffic(vision=1), (0, RIGHTWARD), (1, DOWN))
    drive(world)
    drive(world)
    drive(world, 0)
    assert [at(world, 0), at(world, 1)] == [(3, 1), (1, 3)]
    drive(world)
    assert [at(world, 0), at(world, 1)] == [(3, 2), (2, 3)]
    seen = world.observe([1, 0, 2])[:, 0]
    assert seen.shape == (3, 1 + 2 + 13 + 9 + 9)
    cells = sorted({cell for paths in routes(LEVELS["easy"]) for path in paths for cell in path})

    def expected(braked, route, cell, road, cars):
        where = [float(c == cell) for c in cells]
        return [braked, float(route == DOWN), float(route == RIGHTWARD), *where, *road, *cars]

    from_above = expected(0, DOWN, (2, 3), [0, 1, 0, 0, 1, 0, 1, 1, 1], [0] * 6 + [1, 0, 0])
    from_left = expected(0, RIGHTWARD, (3, 2), [0, 0, 1, 1, 1, 1, 0, 0, 1], [0, 0, 1] + [0] * 6)
    assert seen.tolist() == [from_above, from_left, [0] * 34]
    drive(world, 0, 1)
    seen = world.observe([1, 0])[:, 0]
    assert seen[:, 0].tolist() == [1, 1]
    drive(world)  # both are at the crossing
    assert world.observe([0])[0, 0, -9:].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_blind_cars_see_only_who_is_in_their_own_cell():
    world = quiet(traffic(), (0, RIGHTWARD), (0, DOWN))
    for _ in range(3):
        drive(world)
    assert world.observe([0, 1])[..., -1].tolist() == [[0], [0]]
    drive(world)
    assert world.observe([0, 1])[..., -2:].tolist() == [[[1, 1]], [[1, 1]]]


@pytest.mark.parametrize(("difficulty", "vision"), [("easy", 3), ("medium", 1), ("hard", 2)])
def test_all_that_is_seen_follows_from_where_everybody_is(difficulty, vision):
    world = begin(traffic(difficulty, 3, vision=vision), 4)
    paths = [path for found in routes(LEVELS[difficulty]) for path in found]
    roads = {cell for path in paths for cell in path}
    span = range(-vision, vision + 1)
    for _ in range(world.horizon):
        world.act(everyone(world), at_random(world.time)(world), world.active())
        world.step()
        seen = world.observe(everyone(world))
        assert (seen.dtype, seen.min() >= 0, seen.max() <= 1) == (torch.float32, True, True)
        for b in range(3):
            where = [at(world, car, b) for car in everyone(world)]
            for car, here in enumerate(where):
                if here is None:
                    assert not seen[car, b].any()
                    continue
                near = [(here[0] + i, here[1] + j) for i in span for j in span]
                others = {cell for other, cell in enumerate(where) if other != car}
                tail = [float(c in roads) for c in near] + [float(c in others) for c in near]
                assert seen[car, b, -len(tail) :].tolist() == tail
                assert seen[car, b, 1 : 1 + len(paths)].argmax() == world.route[car, b]
                assert seen[car, b, : -len(tail)].sum() == 2 + world.braked[car, b]


def test_cars_on_the_road_reach_everybody_who_is_there_or_comes_now():
    world = quiet(traffic(), (0, DOWN), (0, RIGHTWARD))
    pairs = list(itertools.permutations(everyone(world), 2))
    senders, receivers = ([pair[i] for pair in pairs] for i in (0, 1))
    assert not world.open_edges(senders, receivers).any()
    drive(world)
    linked = world.open_edges(senders, receivers)
    assert linked.shape == (20, 1)
    reached = [pair for pair, yes in zip(pairs, linked[:, 0], strict=True) if yes]
    assert reached == [pair for pair in pairs if pair[0] in (0, 1)]


@pytest.mark.parametrize("link_range", [1, 2, 3, 5, 6])
def test_messages_go_as_far_as_told(link_range):
    world = quiet(traffic(link_range=link_range), (0, DOWN), (2, RIGHTWARD))
    for _ in range(9):
        drive(world)
        a, b = at(world, 0), at(world, 1)
        near = bool(a and b) and max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= link_range
        assert world.open_edges([0, 1], [1, 0]).tolist() == [[near], [near]]


def test_what_utility_models_see():
    world = quiet(traffic(num_agents=2), (0, RIGHTWARD))
    assert (world.default_context, world.context_fields["state"].kind) == (("state",), "causal")
    assert world.context("state").tolist() == [[0] * 8]
    for _ in range(3):
        drive(world)
    expected = [1, 3 / 6, 2 / 6, 2 / 7, 0, 0, 0, 0]
    assert world.context("state")[0].tolist() == pytest.approx(expected)


# -- what is random ----------------------------------------------------------------------------


@each_level
def test_an_episode_follows_from_the_generator(difficulty):
    told = []
    for seed in (1, 1, 2):
        world = traffic(difficulty, 4)
        played(begin(world, 7), at_random(3))  # what was before makes no difference
        steps = played(begin(world, seed), at_random(5))
        told.append(torch.stack([rewards for _, rewards, *_ in steps]))
    assert torch.equal(told[0], told[1])
    assert not torch.equal(told[0], told[2])


@each_level
def test_more_worlds_change_nothing_in_the_first_ones(difficulty):
    few, many = begin(traffic(difficulty, 3), 5), begin(traffic(difficulty, 8), 5)
    for _ in range(few.horizon):
        assert torch.equal(few.step(), many.step()[:, :3])
        assert torch.equal(few.there, many.there[:, :3])
        assert torch.equal(few.cell, many.cell[:, :3])


@each_level
def test_cars_come_as_often_as_told_and_take_every_route(difficulty):
    world = begin(traffic(difficulty, 400))
    count = world.arrivals.numel()
    spread = (world.arrival * (1 - world.arrival) / count) ** 0.5
    assert world.arrivals.float().mean() == pytest.approx(world.arrival, abs=4 * spread)
    choice = world.choice
    for entry in range(world.num_entries):
        first = entry * world.choices
        taken = torch.bincount(choice[:, entry].flatten(), minlength=first + world.choices)
        assert taken[:first].sum() == 0
        assert len(taken) == first + world.choices
        mean = choice[:, entry].numel() / world.choices
        assert (taken[first:] - mean).abs().max() < 5 * mean**0.5
    more = begin(traffic(difficulty, 400, arrival=1.0))
    assert bool(more.arrivals.all())
    assert torch.equal(more.choice, choice)


def test_every_place_gets_cars():
    world = begin(traffic(worlds=300))
    born = sum(world.reborn().sum(1) for _ in range(20) if world.step() is not None)
    assert (born - born.float().mean()).abs().max() < 5 * born.float().mean() ** 0.5


# -- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"difficulty": "easier"}, "env.difficulty=easier: .* Did you mean 'easy'"),
        ({"difficulty": 3}, "env.difficulty=3: there is no such level. Known: easy, hard, medium"),
        ({"difficulty": ["easy"]}, r"env.difficulty=\['easy'\]: there is no such level"),
        ({"num_agents": 1}, "env.num_agents=1: must be a whole number of at least 2"),
        ({"num_agents": 2.0}, "env.num_agents=2.0: must be a whole number"),
        ({"horizon": 0}, "env.horizon=0: must be a whole number of at least 1"),
        ({"vision": -1}, "env.vision=-1: must be a whole number of at least 0"),
        ({"vision": None}, "env.vision=None: must be a whole number of at least 0"),
        ({"link_range": 0}, "env.link_range=0: must be a whole number of at least 1"),
        ({"message_lifetime": True}, "env.message_lifetime=True: must be a whole number"),
        ({"arrival": 0}, "env.arrival=0: must be a number above 0 and at most 1"),
        ({"arrival": 1.5}, "env.arrival=1.5: must be a number"),
        ({"arrival": "often"}, "env.arrival=often: must be a number"),
        ({"arrival": float("nan")}, "env.arrival=nan: must be a number"),
        ({"arrival": True}, "env.arrival=True: must be a number"),
    ],
)
def test_mistakes_are_named(own, said):
    with pytest.raises(UserError, match=said) as caught:
        Traffic(**own)
    assert "\n" not in str(caught.value)


# -- as others know environments ---------------------------------------------------------------

FORMS = {
    "easy": functools.partial(traffic_v0.parallel_env),
    "medium": functools.partial(traffic_v0.parallel_env, difficulty="medium", vision=1),
    "hard": functools.partial(traffic_v0.parallel_env, difficulty="hard", num_agents=6),
    "crowded": functools.partial(traffic_v0.parallel_env, num_agents=2, arrival=1.0, horizon=7),
}
forms = pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)


@forms
def test_passes_the_official_tests(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it sees nothing but zeros while there is no car
        api_test(traffic_v0.env(**make.keywords), num_cycles=60)
        api_test(traffic_v0.raw_env(**make.keywords), num_cycles=30)
        seed_test(functools.partial(traffic_v0.env, **make.keywords), num_cycles=60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(make(), num_cycles=60)
        parallel_seed_test(make, num_cycles=60)
        render_test(functools.partial(traffic_v0.env, **make.keywords))
        warnings.filterwarnings("ignore", "State numpy array is all zeros")  # no car yet
        state_test(parallel_to_aec(make()), make(), num_cycles=10)


def test_passes_the_official_tests_at_clocks_of_its_own():
    def make(**mode):
        return clocked(traffic_v0.parallel_env(**mode), PoissonClock(0.5))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        api_test(make(), num_cycles=60)
        seed_test(make, num_cycles=60)


@forms
def test_an_episode_as_others_play_it(make):
    told = []
    for _ in range(2):
        env = make()
        for number, agent in enumerate(env.possible_agents):
            env.action_space(agent).seed(number)
        told.append([env.reset(seed=3)])
        while env.agents:
            due = [agent for agent, info in told[-1][-1][-1].items() if info["due"]]
            here = env.world.active()[:, 0].tolist()
            assert due == [a for a, yes in zip(env.agents, here, strict=True) if yes]
            told[-1].append(env.step({a: env.action_space(a).sample() for a in env.agents}))
            for agent, seen in told[-1][-1][0].items():
                assert env.observation_space(agent).contains(seen)
            assert env.state_space.contains(env.state())
        assert len(told[-1]) == env.world.horizon + 1
        returns = sum(sum(step[1].values()) for step in told[-1][1:]) / len(env.possible_agents)
        assert returns == pytest.approx(env.world.score()["return"].item(), rel=1e-4)
    np.testing.assert_equal(told[0], told[1])


def test_a_picture_shows_roads_and_cars():
    env = traffic_v0.parallel_env(render_mode="ansi")
    env.reset(seed=0)
    quiet(env.world, (0, DOWN), (0, RIGHTWARD))
    roads = env.render().splitlines()[1:8]
    assert roads[3] == ":" * 14 or len(set(roads[3])) == 1
    assert [row[6:8] for row in roads] == [roads[3][:2]] * 7
    assert roads[0].replace(" ", "") == roads[3][:2]
    for _ in range(4):
        env.step({})
    crossing = env.render().splitlines()[4]
    assert crossing[6:8] == "@@"
    assert len({crossing[:6], crossing[8:]} - {roads[3][:6]}) == 0


@pytest.mark.parametrize(
    "env",
    [Traffic(), Traffic("medium", vision=2), Traffic("hard", num_agents=5, link_range=3)],
    ids=str,
)
def test_keeps_the_contract(env):
    assert check_env(env, steps=100) == []


@pytest.mark.parametrize("feedback", ["synthetic", "exact"])
def test_agents_learn_in_it(feedback):
    simulation = Simulation(
        env=Traffic(num_agents=3, link_range=2), agent=RecurrentActorCritic, feedback=feedback,
        clock=PoissonClock(0.7), window=5, num_worlds=3,
        evaluation=Evaluation(episodes=1, num_worlds=3),
    )  # fmt: skip
    metrics = simulation.run(steps=20).metrics
    assert 0 <= metrics["success"] <= 1
    assert metrics["return"] < 0
    assert all(torch.isfinite(tensor).all() for tensor in simulation.tensors().values())
