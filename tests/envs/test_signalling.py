import math

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

from dnicomm.envs import Naming, Signalling, signalling_v0
from dnicomm.errors import UserError
from dnicomm.sim import (
    Delay,
    Evaluation,
    PeriodicClock,
    PoissonClock,
    RegulariseDiscretise,
    Simulation,
)
from dnicomm.sim.agent import AgentSpec, Inbox
from dnicomm.testing import check_env

CPU = torch.device("cpu")


def signalling(worlds=8, seed=0, **options):
    world = Signalling(**options).make(worlds, "train", CPU)
    world.reset(0, np.random.default_rng(seed))
    return world


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attributes": 0}, "env.attributes=0: must be a whole number of at least 1"),
        ({"values": 1}, "env.values=1: must be a whole number of at least 2"),
        ({"values": True}, "env.values=True: must be a whole number of at least 2"),
        ({"horizon": 2.5}, "env.horizon=2.5: must be a whole number of at least 1"),
        ({"change": 1.1}, "env.change=1.1: must be a number from 0 to 1"),
        ({"change": "often"}, "env.change=often: must be a number from 0 to 1"),
        ({"attributes": 3, "values": 17}, "env.attributes=3, env.values=17: more than 4,096"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError) as caught:
        Signalling(**options)
    assert str(caught.value).startswith(message)


def test_sizes_up_to_the_most_objects_are_allowed():
    assert Signalling(attributes=3, values=16).num_objects == 4096


# -- objects ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(2, 5), st.integers(0, 10))
def test_what_is_seen_says_which_object_it_is(attributes, values, seed):
    world = signalling(16, seed, attributes=attributes, values=values)
    seen = world.observe([0])[0].unflatten(-1, (attributes, values))  # [B, attributes, values]
    assert torch.equal(seen.sum(-1), torch.ones(16, attributes))
    number = (seen.argmax(-1) * values ** torch.arange(attributes)).sum(-1)
    assert torch.equal(number, world.shown)
    assert torch.equal(world.context("object").argmax(-1), world.shown)
    assert world.observe([1]).shape == (1, 16, 0)


def test_how_long_an_object_stays():
    """The share of worlds whose object of ``age`` units ago is the one now, by the closed form."""
    env = Signalling(values=2, change=0.2, horizon=30)
    world = signalling(20_000, values=2, change=0.2, horizon=30)
    for age in (0, 1, 2, 5, 20):
        share = (world.objects[age] == world.objects[0]).float().mean().item()
        assert share == pytest.approx(env.still_there(age), abs=0.015)
    assert env.still_there(10_000) == pytest.approx(1 / 4)
    assert torch.bincount(world.objects[29]).div(20_000).tolist() == pytest.approx(
        [0.25] * 4, abs=0.02
    )


def test_never_and_always():
    world = signalling(50, change=0)
    assert (world.objects == world.objects[0]).all()
    world = signalling(50, change=1)
    assert (world.objects[1:] != world.objects[:-1]).all()


# -- pay -------------------------------------------------------------------------------------------


def test_a_guess_is_paid_as_long_as_it_is_right():
    world = signalling(2, change=0, horizon=4)
    assert world.step().tolist() == [[0, 0], [0, 0]], "who says nothing is not right"
    guess = torch.stack([world.shown[0], (world.shown[1] + 1) % world.num_objects])
    world.act([0, 1], torch.stack([torch.zeros(2, dtype=torch.int64), guess]), None)
    assert [world.step().tolist() for _ in range(3)] == [[[1, 0], [1, 0]]] * 3
    assert world.score()["return"].tolist() == [3, 0]
    assert world.score()["right"].tolist() == [0.75, 0]


def test_who_is_not_active_keeps_its_guess():
    world = signalling(2, change=0)
    first, second = world.shown, (world.shown + 1) % world.num_objects
    world.act([1], first[None], None)
    world.act([1], second[None], torch.tensor([[True, False]]))
    assert world.step()[0].tolist() == [0, 1]


# -- the best there is -----------------------------------------------------------------------------


def played(env, clock, channel, episodes=1, worlds=4000, **options):
    """Mean share of the time at which the hand-written pair is right, and the simulation."""
    simulation = Simulation(
        env, agent=lambda spec: Naming(spec, env.attributes, env.values), clock=clock,
        channel=channel, feedback="none", utility=None, num_worlds=2,
        evaluation=Evaluation(episodes=episodes, num_worlds=worlds), **options,
    )  # fmt: skip
    return simulation.evaluate()["metrics"]["right"]


@pytest.mark.parametrize("delay", [0, 3])
@pytest.mark.parametrize("bits", [False, True])
def test_the_hand_written_pair_is_right_as_often_as_the_closed_form_says(delay, bits):
    """Everybody ticks at each time: what is named is 1 + delay units old, and nothing before."""
    env = Signalling(change=0.1, horizon=20)
    encoding = {"discrete": RegulariseDiscretise()} if bits else {"normalise": False}
    right = played(env, PeriodicClock(1), Delay(delay), message_size=4, **encoding)
    first = 1 + delay  # units of time in which nothing has been heard
    assert right == pytest.approx((20 - first) * env.still_there(first) / 20, abs=0.01)


def test_the_hand_written_pair_under_irregular_clocks():
    """The age of what is named, averaged over Poisson clocks simulated here by hand."""
    env = Signalling(change=0.1, horizon=30)
    right = played(env, PoissonClock(0.5), Delay(0), 150, 200, message_size=4, normalise=False)
    rng, total, episodes = np.random.default_rng(1), 0.0, 3000
    for _ in range(episodes):
        speaks, listens = rng.random((2, env.horizon)) < 0.5
        speaks[0] = listens[0] = True  # the tick at time 0 is given
        sent, named = math.nan, math.nan  # when the message heard of last was sent
        for time in range(env.horizon):
            named = sent if listens[time] else named
            total += 0 if math.isnan(named) else env.still_there(time - named)
            sent = time if speaks[time] else sent
    assert right == pytest.approx(total / episodes / env.horizon, abs=0.015)


def test_who_names_wants_its_own_environment_and_enough_bits():
    with pytest.raises(UserError, match="Naming is for signalling"):
        Naming(AgentSpec((5,), 0, True, 32, 0), 2, 3)
    with pytest.raises(UserError, match=r"message.size=3: Naming says 4 bits"):
        Naming(AgentSpec((6,), 0, True, 3, 0), 2, 3)


def test_every_object_has_a_name_of_its_own():
    """The speaker's words, heard by the listener, are the object again."""
    for attributes, values in ((1, 2), (2, 3), (3, 4)):
        world = signalling(400, attributes=attributes, values=values)
        size = (values**attributes - 1).bit_length()
        kind = attributes, values
        speaker = Naming(AgentSpec((attributes * values,), 0, True, size, 0), *kind)
        listener = Naming(AgentSpec((0,), values**attributes, True, size, 1), *kind)
        nothing = Inbox(torch.zeros(400, 0, size), torch.zeros(400, 0).bool(), torch.zeros(400, 0))
        said = speaker.tick(world.observe([0])[0], nothing, ()).message
        for words in (said, (said > 0).float()):
            heard = Inbox(words[:, None], torch.ones(400, 1).bool(), torch.ones(400, 1))
            action = listener.tick(torch.zeros(400, 0), heard, ()).action.argmax(-1)
            assert torch.equal(action, world.shown)


# -- conformance -----------------------------------------------------------------------------------


def test_the_world_keeps_its_contract():
    assert check_env(Signalling()) == []


def test_pettingzoo_conformance():
    api_test(signalling_v0.env(), num_cycles=200)
    api_test(signalling_v0.raw_env(), num_cycles=200)
    parallel_api_test(signalling_v0.parallel_env(), num_cycles=200)
    seed_test(signalling_v0.env, num_cycles=50)
    parallel_seed_test(signalling_v0.parallel_env, num_cycles=50)
    state_test(signalling_v0.env(), signalling_v0.parallel_env())
    render_test(lambda **options: parallel_to_aec(signalling_v0.parallel_env(**options)))


def test_as_pettingzoo_it_pays_the_same():
    env = signalling_v0.parallel_env(change=0.0, horizon=3)
    env.reset(seed=3)
    right = int(env.world.shown[0])
    rewards = []
    while env.agents:
        _, reward, terminations, _, _ = env.step({"speaker": 0, "listener": right})
        rewards.append(reward)
    assert rewards == [{"speaker": 1.0, "listener": 1.0}] * 3
    assert terminations == {"speaker": True, "listener": True}
