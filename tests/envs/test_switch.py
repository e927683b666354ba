import functools
import itertools
import math
import warnings
from fractions import Fraction

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

from dnicomm.agents import Agent
from dnicomm.envs import Switch, switch_v0
from dnicomm.errors import UserError
from dnicomm.sim import Evaluation, Simulation, TickOutput
from dnicomm.sim.world import AgentSpaces
from dnicomm.testing import check_env

CPU = torch.device("cpu")
FEW = [{"num_agents": 2}, {"num_agents": 2, "horizon": 7}, {}, {"horizon": 3}, {"calendar": True}]
SETTINGS = [*FEW, {"num_agents": 4}, {"num_agents": 5, "horizon": 6}]
each_setting = pytest.mark.parametrize("settings", SETTINGS, ids=str)


def switch(worlds=8, split="train", **settings):
    return Switch(**settings).make(worlds, split, CPU)


def begin(world, seed=0, episode=0):
    world.reset(episode, np.random.default_rng(seed))
    return world


def everyone(world):
    return range(len(world.agents))


def stage(world, *columns):
    """A world whose days are as told, a column each."""
    begin(world)
    world.room = torch.tensor(columns).T
    world.inside = F.one_hot(world.room, len(world.agents)).bool().transpose(1, 2)
    world.visited = world.inside.cumsum(0) > 0
    return world


def tell(world, *worlds):
    """Everybody acts, as the engine has it: those in the room tell in some worlds."""
    actions = torch.zeros(len(world.agents), world.num_worlds, dtype=torch.int64)
    actions[:, list(worlds)] = 1
    world.act(everyone(world), actions, world.active())


def all_there(agents, days):
    """The chance that all of them have been in the room after some days (coupon collector)."""
    return sum(
        (-1) ** k * math.comb(agents, k) * Fraction(agents - k, agents) ** days
        for k in range(agents + 1)
    )


# -- who is who, and when ----------------------------------------------------------------------


def test_what_they_see_and_do():
    world = switch(num_agents=3)
    assert world.agents == ("prisoner_0", "prisoner_1", "prisoner_2")
    assert {world.spaces(agent) for agent in world.agents} == {AgentSpaces((1,), 2)}
    assert switch(calendar=True).spaces("prisoner_1") == AgentSpaces((1 + 6,), 2)
    assert world.edges is None
    assert world.rewards
    assert world.early_end
    assert world.message_lifetime == 1
    kinds = {name: (field.size, field.kind) for name, field in world.context_fields.items()}
    assert kinds == {"visited": (3, "causal"), "day": (6, "causal"), "state": (12, "causal")}


@pytest.mark.parametrize(
    ("num_agents", "horizon", "days"), [(2, None, 2), (3, None, 6), (4, None, 10), (3, 4, 4)]
)
def test_an_episode_has_as_many_days_as_in_the_paper_or_as_told(num_agents, horizon, days):
    world = begin(switch(num_agents=num_agents, horizon=horizon))
    assert world.horizon == world.episode_length() == days
    assert world.schedule() == dict.fromkeys(world.agents, range(days))
    assert world.window_ends("prisoner_0") == [days - 1]


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("num_agents", 1, "a whole number of at least 2"),
        ("num_agents", True, "a whole number of at least 2"),
        ("num_agents", "3", "a whole number of at least 2"),
        ("horizon", 2, "a whole number of at least 3"),
        ("horizon", 6.0, "a whole number of at least 3"),
        ("calendar", 1, "true or false"),
    ],
)
def test_mistakes_are_named(key, value, allowed):
    with pytest.raises(UserError, match=f"env.{key}={value}: must be {allowed}$"):
        Switch(**{key: value})


@each_setting
def test_keeps_the_contract_of_environments(settings):
    assert check_env(Switch(**settings)) == []


# -- days --------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", FEW, ids=str)
def test_a_test_shows_each_sequence_of_days_once(settings):
    env = Switch(**settings)
    world = begin(env.make(env.eval_worlds, "test", CPU))
    assert env.eval_worlds == len(world.agents) ** world.horizon
    every = set(itertools.product(everyone(world), repeat=world.horizon))
    assert {tuple(column) for column in world.room.T.tolist()} == every
    halves = env.make(env.eval_worlds // 2 + 1, "test", CPU)
    columns = [c for episode in (4, 5) for c in begin(halves, 0, episode).room.T.tolist()]
    assert {tuple(column) for column in columns} == every


def test_where_sequences_are_many_a_test_draws_them():
    env = Switch(num_agents=4)
    assert env.eval_worlds == 1024
    first, again = env.make(1024, "test", CPU), env.make(1024, "test", CPU)
    assert torch.equal(begin(first, 1).room, begin(again, 1, episode=3).room)
    assert not torch.equal(first.room, begin(again, 2).room)


def test_prisoners_are_drawn_evenly_and_anew_each_day():
    room = begin(switch(20_000, num_agents=3)).room
    pairs = 3 * room[:-1] + room[1:]  # a day and the next
    shares = torch.bincount(pairs.flatten(), minlength=9) / pairs.numel()
    torch.testing.assert_close(shares, torch.full((9,), 1 / 9), atol=0.003, rtol=0)


@each_setting
def test_an_episode_follows_from_the_generator(settings):
    world, other = switch(**settings), switch(**settings)
    begin(world, 9).step()
    assert torch.equal(begin(world, 1).room, begin(other, 1).room)
    assert world.time == 0
    assert not torch.equal(world.room, begin(other, 2).room)


def test_more_worlds_change_nothing_in_the_first_ones():
    few, many = begin(switch(4), 3), begin(switch(9), 3)
    assert torch.equal(few.room, many.room[:, :4])


@pytest.mark.parametrize(
    ("num_agents", "horizon"), [(2, 2), (2, 3), (2, 10), (3, 3), (3, 5), (3, 6), (4, 5)]
)
def test_what_is_possible_is_the_coupon_collectors_chance(num_agents, horizon):
    env = Switch(num_agents=num_agents, horizon=horizon)
    world = begin(env.make(env.eval_worlds, "test", CPU))
    exact = all_there(num_agents, horizon)
    assert world.score()["possible"].sum().item() == exact * env.eval_worlds
    if (num_agents, horizon) == (3, 6):
        assert exact == Fraction(540, 729)


# -- what is seen and done ---------------------------------------------------------------------


@each_setting
def test_each_day_one_is_in_the_room_and_knows_only_that(settings):
    world = begin(switch(16, **settings))
    for day in range(world.horizon):
        active = world.active()
        assert torch.equal(active.int().argmax(0), world.room[day])
        assert active.sum(0).tolist() == [1] * 16
        assert world.alive() is None
        seen = world.observe(everyone(world))
        assert (seen.shape[2:], seen.dtype) == (world.spaces("prisoner_0").observation_shape,
                                                torch.float32)  # fmt: skip
        expected = active[..., None].float()
        if world.calendar:
            dates = F.one_hot(torch.tensor(day), world.horizon)
            expected = expected * torch.cat([torch.ones(1), dates])
        assert torch.equal(seen, expected)
        assert torch.equal(world.observe([1]), seen[1:2])
        assert not bool(world.ended().any())
        world.step()
    assert bool(world.ended().all())
    assert not bool(world.active().any())
    assert not bool(world.observe(everyone(world)).any())


@each_setting
def test_facts_are_those_of_a_naive_recount(settings):
    world = begin(switch(6, **settings), 2)
    columns = world.room.T.tolist()
    for day in range(world.horizon):
        visited = [[float(i in c[: day + 1]) for i in everyone(world)] for c in columns]
        inside = [[float(i == c[day]) for i in everyone(world)] for c in columns]
        days = [[float(d == day) for d in range(world.horizon)]] * 6
        assert world.context("visited").tolist() == visited
        assert world.context("day").tolist() == days
        state = [a + b + c for a, b, c in zip(visited, inside, days, strict=True)]
        assert world.context("state").tolist() == state
        world.step()
    assert world.context("state").tolist() == state  # values at the end ask for it


def test_who_tells_in_time_wins_and_who_tells_too_early_loses():
    world = stage(switch(4), *[[0, 1, 0, 2, 2, 1]] * 4)
    rewards = []
    for day in range(6):
        tell(world, *{1: [0], 3: [1], 5: [2]}.get(day, []))
        rewards.append(world.step())
    total = torch.stack(rewards)  # [T, n, B]
    assert total.dtype == torch.float32
    assert total[1, :, 0].tolist() == [-1] * 3  # two have been there
    assert total[3, :, 1].tolist() == total[5, :, 2].tolist() == [1] * 3
    assert total.abs().sum() == 9  # and there is no other reward
    scores = {name: score.tolist() for name, score in world.score().items()}
    assert scores == {"return": [-1, 1, 1, 0], "possible": [1] * 4, "told": [1, 1, 1, 0]}


def test_a_world_is_over_for_all_once_somebody_has_told():
    world = stage(switch(2), *[[0, 1, 2, 0, 1, 2]] * 2)
    for _ in range(2):
        world.step()
    tell(world, 0)
    assert world.step()[:, 0].tolist() == [1, 1, 1]
    assert world.ended().tolist() == [True, False]
    assert world.active().tolist() == [[False, True], [False, False], [False, False]]
    for _ in range(3):
        tell(world, 0)
        assert not bool(world.step().any())
    assert world.score()["return"].tolist() == [1, 0]


def test_only_who_is_in_the_room_can_tell():
    world = stage(switch(2, num_agents=2, horizon=3), [0, 1, 1], [0, 1, 1])
    world.step()
    world.act([0], torch.ones(1, 2, dtype=torch.int64), None)
    assert not bool(world.step().any())
    world.act([1], torch.ones(1, 2, dtype=torch.int64), torch.tensor([[False, True]]))
    assert world.step()[0].tolist() == [0, 1]


def test_who_tells_does_not_go_on_telling():
    """An action stands for its day alone, also where nobody acts on the next one."""
    world = stage(switch(1), [0, 1, 2, 0, 1, 2])
    world.act([1], torch.ones(1, 1, dtype=torch.int64), None)  # it is not his turn
    for _ in range(6):
        assert not bool(world.step().any())


# -- the switch --------------------------------------------------------------------------------


@each_setting
def test_the_switch_goes_from_todays_prisoner_to_tomorrows(settings):
    world = begin(switch(32, **settings), 5)
    pairs = list(itertools.permutations(everyone(world), 2))
    senders, receivers = zip(*pairs, strict=True)
    for day in range(world.horizon - 1):
        tell(world, 0)
        is_open = world.open_edges(senders, receivers)
        for (a, b), row in zip(pairs, is_open.tolist(), strict=True):
            today, tomorrow = world.room[day].tolist(), world.room[day + 1].tolist()
            assert row[1:] == [
                (x, y) == (a, b) for x, y in zip(today[1:], tomorrow[1:], strict=True)
            ]
            assert row[0] is False  # they are free, or lost
        world.step()
    assert world.open_edges(senders, receivers) is False  # there is no tomorrow


def solve(world, levels):
    """Prisoners count on the switch, whose positions are 1 to ``levels``: how many have been there.

    Who is in the room for the first time adds himself; who finds nothing is the first of all, or
    was here yesterday and knows what he left.
    """
    count, worlds = len(world.agents), world.num_worlds
    left = torch.zeros(count, worlds, dtype=torch.int64)  # what each one last left on the switch
    been = torch.zeros(count, worlds, dtype=torch.bool)
    mail = torch.zeros(count, worlds, dtype=torch.int64)  # on the switch, where it is not his own
    pairs = list(itertools.permutations(range(count), 2))
    senders, receivers = (list(side) for side in zip(*pairs, strict=True))
    for _ in range(world.horizon):
        active = world.active()
        assert bool((world.observe(range(count))[..., 0] == active).all())
        found = torch.where(mail > 0, mail, left)
        now = torch.where(active & ~been, found + 1, found)
        been |= active
        left = torch.where(active, now.clamp(max=levels), left)
        world.act(range(count), (now == count).long(), active)
        is_open = world.open_edges(senders, receivers)
        world.step()
        mail = torch.zeros_like(mail)  # it does not last
        if is_open is not False:
            mail.index_add_(0, torch.tensor(receivers), left[senders] * is_open)
        if bool(world.ended().all()):
            break
    return world.score()


@pytest.mark.parametrize("settings", [*FEW, {"num_agents": 4, "horizon": 5}], ids=str)
def test_counting_on_the_switch_reaches_all_that_is_possible(settings):
    env = Switch(**settings)
    world = begin(env.make(env.eval_worlds, "test", CPU))
    scores = solve(world, len(world.agents))
    assert torch.equal(scores["return"], scores["possible"])
    assert torch.equal(scores["told"], scores["possible"])


def test_one_bit_is_enough_for_three_prisoners():
    """The switch says whether one or two have been there; the third one tells."""
    world = begin(Switch().make(729, "test", CPU))
    scores = solve(world, levels=2)
    assert torch.equal(scores["return"], scores["possible"])
    assert scores["return"].sum() == 540


@pytest.mark.parametrize("num_agents", [4, 6])
def test_counting_works_with_more_prisoners(num_agents):
    scores = solve(begin(switch(500, num_agents=num_agents)), num_agents)
    assert torch.equal(scores["return"], scores["possible"])
    assert 0.6 < scores["possible"].mean() < 0.9


def test_without_a_switch_and_a_calendar_nothing_beats_silence():
    """Who hears nothing knows how often he was in the room: all that he can do is wait for it."""
    world = begin(Switch().make(729, "test", CPU))
    times = world.inside.int().cumsum(0)  # [T, n, B] in the room so far
    own = times.gather(1, world.room[:, None]).squeeze(1)  # [T, B]
    right = world.visited.all(1)  # [T, B]
    best = {}
    for waits in itertools.combinations_with_replacement([*range(1, 7), 99], 3):
        tells = own == torch.tensor(waits)[world.room]
        first = tells.int().argmax(0, keepdim=True)
        reward = torch.where(right.gather(0, first), 1, -1) * tells.any(0)
        best[waits] = int(reward.sum())
    assert max(best.values()) == best[(99, 99, 99)] == 0


def test_with_a_calendar_alone_one_can_tell_on_the_last_day():
    """After at most three of six days of one's own the others have likely been there."""
    world = begin(Switch(calendar=True).make(729, "test", CPU))
    own = torch.zeros(3, 729, dtype=torch.int64)
    for _ in range(6):
        seen = world.observe([0, 1, 2])
        own += seen[..., 0].long()
        world.act([0, 1, 2], ((seen[..., -1] == 1) & (own <= 3)).long(), world.active())
        world.step()
    scores = world.score()
    assert scores["return"].sum().item() == 729 * Fraction(128, 243)
    share = scores["return"].mean() / scores["possible"].mean()
    assert share.item() == pytest.approx(0.711, abs=5e-4)


class Counter(Agent):
    """Plays the counting protocol: what it leaves on the switch is how many have been there."""

    def initial_state(self, num_worlds):
        return torch.zeros(num_worlds, 2)  # what it last left, whether it has been there

    def tick(self, observation, inbox, state):
        left, been = state.unbind(-1)
        mail = (inbox.messages[..., 0] * inbox.mask).sum(-1)
        found = torch.where(inbox.mask.any(-1), mail, left)
        now = found + (1 - been)
        prisoners = inbox.mask.shape[-1] + 1
        action = torch.stack([torch.zeros_like(now), now - prisoners + 0.5], -1)
        return TickOutput(action, now[:, None], torch.stack([now, torch.ones_like(now)], -1))

    def loss(self, output, outcome):
        return output.message.sum(-1) * 0


@pytest.mark.parametrize("num_agents", [2, 3])
def test_the_protocol_works_over_the_simulators_channels(num_agents):
    simulation = Simulation(
        env=Switch(num_agents=num_agents),
        agent=Counter,
        message_size=1,
        normalise=False,
        utility=None,
        feedback="none",
        num_worlds=8,
        evaluation=Evaluation(episodes=1),
    )
    metrics = simulation.evaluate()["metrics"]
    exact = float(all_there(num_agents, simulation.world.horizon))
    assert metrics["return"] == metrics["possible"] == pytest.approx(exact)
    assert metrics["train_return"] == metrics["train_possible"]


# -- as PettingZoo -----------------------------------------------------------------------------

FORMS = {
    "three": functools.partial(switch_v0.parallel_env),
    "two_test": functools.partial(switch_v0.parallel_env, num_agents=2, split="test"),
    "calendar": functools.partial(switch_v0.parallel_env, num_agents=4, calendar=True),
}
forms = pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)


@forms
def test_passes_the_official_tests(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(make(), num_cycles=60)
        parallel_seed_test(make, num_cycles=60)
        state_test(parallel_to_aec(make()), make(), num_cycles=20)
        # one number is all that there is to see, and it is zero for those outside
        warnings.filterwarnings("ignore", "Observation (is a single number|numpy array is all zer)")
        for form in (switch_v0.env, switch_v0.raw_env):
            in_turns = functools.partial(form, **make.keywords)
            api_test(in_turns(), num_cycles=60)
            seed_test(in_turns, num_cycles=60)
            render_test(in_turns)


def test_whose_day_it_is_and_whose_word_counts():
    env = switch_v0.parallel_env()
    outcomes = []
    for seed in range(40):
        observations, infos = env.reset(seed=seed)
        room = env.world.room[:, 0].tolist()
        while env.agents:
            due = [agent for agent in env.agents if infos[agent]["due"]]
            assert due == [agent for agent in env.agents if observations[agent][0]]
            assert due == [f"prisoner_{room[env.time]}"]
            told = env.time == seed % 8
            actions = {agent: int(told or agent not in due) for agent in env.agents}
            observations, rewards, ended, _, infos = env.step(actions)
            if told or env.time == 6:
                reward = 0 if not told else 1 if {*room[: env.time]} == {0, 1, 2} else -1
                assert rewards == dict.fromkeys(env.possible_agents, reward)
                assert set(ended.values()) == {True}
                outcomes.append(reward)
                break
            assert rewards == dict.fromkeys(env.possible_agents, 0)
        assert env.agents == []
    assert set(outcomes) == {-1, 0, 1}


def test_state_and_picture():
    env = switch_v0.parallel_env(render_mode="ansi")
    env.reset(seed=3)
    stage(env.world, [1, 0, 0, 2, 1, 1])
    env._observe()
    assert env.state().tolist() == [0, 1, 0] + [0, 1, 0] * 2 + [1, 0, 0, 0, 0, 0]
    for _ in range(3):
        env.step({agent: 0 for agent in env.agents if env._infos[agent]["due"]})
    assert env.render().splitlines() == [
        "switch_v0  time 3 of 6",
        "  @@@@      ",
        "@@          ",
        "      @@    ",
        "prisoner_0: 0",
        "prisoner_1: 0",
        "prisoner_2: no answer yet",
    ]
