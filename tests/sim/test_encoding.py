"""Discrete messages: what is sent, what its gradient is, and what of it is random."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal

from dnicomm.agents import ActorCritic, FeedForward
from dnicomm.core import Adam, GradientUtility
from dnicomm.errors import UserError
from dnicomm.sim import (
    Evaluation,
    GumbelSymbol,
    MessageEncoder,
    Occasion,
    OwnNormalizer,
    PoissonClock,
    RegulariseDiscretise,
    Simulation,
    UtilitySettings,
    standard_channel,
)

N, B, D = 2, 4, 5
ENCODERS = [GumbelSymbol(), RegulariseDiscretise()]
each_encoder = pytest.mark.parametrize("encoder", ENCODERS, ids=["gumbel", "dru"])


def drawn(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A message and noise for it."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.rand(shape, generator=random, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    message = torch.randn(shape, generator=random, dtype=torch.float64)
    return message.requires_grad_(), noise


# -- each message by itself -----------------------------------------------------------------------


def test_a_message_is_normalised_by_its_own_mean_and_deviation():
    message, _ = drawn(N, B, D)
    sent = OwnNormalizer().encode(3 + 10 * message, Occasion(True))
    torch.testing.assert_close(sent.mean(-1), torch.zeros(N, B, dtype=torch.float64))
    torch.testing.assert_close(sent.var(-1, unbiased=False), torch.ones(N, B, dtype=torch.float64),
                               atol=1e-5, rtol=0)  # fmt: skip


def test_worlds_do_not_see_each_other_and_a_test_is_as_training():
    message, _ = drawn(N, B, D)
    whole = OwnNormalizer().encode(message, Occasion(True))
    active = torch.tensor([[True, False, True, True]] * N)
    tested = OwnNormalizer().encode(
        message[:, 1:2], Occasion(False, torch.arange(N), active[:, 1:2])
    )
    assert torch.equal(whole[:, 1:2], tested)


def test_a_number_alone_says_nothing_once_it_is_normalised_by_itself(market):
    with pytest.raises(UserError, match=r"message\.size=1: a number normalised by itself"):
        Simulation(market(), ActorCritic, message_size=1, normalise="own")


# -- DIAL's unit ----------------------------------------------------------------------------------


@given(number=st.floats(-1e6, 1e6, width=32))
@settings(deadline=None)
def test_train_and_test_agree_on_the_threshold(number):
    """The bit that is sent in evaluation is what is sent in training, rounded, without noise."""
    unit, message = RegulariseDiscretise(), torch.tensor([[[number]]], dtype=torch.float64)
    soft, bit = unit.encode(message, Occasion(True)), unit.encode(message, Occasion(False))
    assert torch.equal(soft, message.sigmoid())
    assume(soft.item() != 0.5)  # so near to the threshold that it can't be told from it
    assert bit.item() == round(soft.item())
    assert (bit.item() == 1) == (number > 0)


@given(number=st.floats(-30, 30), uniform=st.floats(1e-6, 1 - 1e-6), spread=st.floats(0, 5))
@settings(deadline=None)
def test_the_noise_is_gaussian(number, uniform, spread):
    """The inverse of its distribution: a channel is at q where its noise is at the quantile q."""
    message, noise = (torch.full((1, 1, 1), x, dtype=torch.float64) for x in (number, uniform))
    sent = RegulariseDiscretise(spread).encode(message, Occasion(True, noise=noise))
    normal = Normal(torch.tensor(0.0, dtype=torch.float64), 1.0).icdf(noise)
    torch.testing.assert_close(sent, (message + spread * normal).sigmoid(), rtol=1e-6, atol=1e-12)


def test_the_gradient_is_that_of_the_sigmoid_where_the_noise_put_it():
    message, noise = drawn(N, B, D)
    sent = RegulariseDiscretise(1.5).encode(message, Occasion(True, noise=noise))
    (slope,) = torch.autograd.grad(sent.sum(), [message])
    torch.testing.assert_close(slope, sent * (1 - sent))


def test_numbers_far_from_the_threshold_are_bits_in_training_too():
    message = torch.tensor([-60.0, 60.0]).expand(1, 50, 2)
    _, noise = drawn(1, 50, 2)
    sent = RegulariseDiscretise(2.0).encode(message, Occasion(True, noise=noise.float()))
    torch.testing.assert_close(sent, (message > 0).float())


# -- symbols --------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_symbol_is_one_hot_with_the_gradient_of_the_softmax(temperature):
    message, noise = drawn(N, B, D)
    weight = torch.randn(N, B, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sent = GumbelSymbol(temperature).encode(message, Occasion(True, noise=noise))
    assert torch.equal(sent.sum(-1), torch.ones_like(sent[..., 0]))
    assert set(sent.unique().tolist()) == {0.0, 1.0}
    (slope,) = torch.autograd.grad((sent * weight).sum(), [message])
    other = message.detach().requires_grad_()
    soft = ((other - torch.log(-torch.log(noise))) / temperature).softmax(-1)
    (want,) = torch.autograd.grad((soft * weight).sum(), [other])
    torch.testing.assert_close(slope, want)
    assert torch.equal(sent.argmax(-1), soft.argmax(-1))


def test_symbols_come_as_often_as_the_softmax_says():
    """By construction: what wins is the smallest of -log(u_k) / p_k, and with two symbols only
    the share of the first exponential in both decides; it goes evenly through all shares here.
    """
    count, p = 2000, 0.2
    share = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    noise = torch.stack([torch.exp(-share), torch.exp(share - 1)], -1)[None]
    message = torch.tensor([p, 1 - p], dtype=torch.float64).log().expand(1, count, 2)
    sent = GumbelSymbol().encode(message, Occasion(True, noise=noise))
    assert sent[0, :, 0].mean().item() == pytest.approx(p, abs=1e-3)


def test_in_evaluation_the_likeliest_symbol_is_sent():
    message, noise = drawn(N, B, D)
    for given_noise in (None, noise):  # which would be another one's
        sent = GumbelSymbol(5.0).encode(message, Occasion(False, noise=given_noise))
        assert torch.equal(sent.argmax(-1), message.argmax(-1))
        assert set(sent.unique().tolist()) == {0.0, 1.0}
        assert not sent.requires_grad


# -- both -----------------------------------------------------------------------------------------


@each_encoder
def test_members_and_worlds_are_independent(encoder):
    message, noise = drawn(N, B, D)
    together = encoder.encode(message, Occasion(True, noise=noise))
    for n, b in itertools.product(range(N), range(B)):
        at = (slice(n, n + 1), slice(b, b + 1))
        alone = encoder.encode(message[at], Occasion(True, noise=noise[at]))
        assert torch.equal(alone, together[at])


@each_encoder
def test_a_tick_computed_again_is_the_same(encoder):
    message, noise = drawn(N, B, D)
    once = encoder.encode(message, Occasion(True, noise=noise))
    assert torch.equal(encoder.encode(message, Occasion(True, noise=noise, again=True)), once)
    assert encoder.tensors() == {}


def test_bits():
    assert MessageEncoder().bits(8, 32) == 256  # numbers as the channel carries them
    assert MessageEncoder().bits(8, 4) == 32
    assert RegulariseDiscretise().bits(8, 32) == 8  # a bit each
    assert GumbelSymbol().bits(8, 32) == 3  # one of eight
    assert GumbelSymbol().bits(1, 32) == 0
    assert GumbelSymbol().bits(5, 32) == pytest.approx(math.log2(5))


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (GumbelSymbol, 0.0, "message.temperature=0.0: must be a number above 0"),
        (GumbelSymbol, math.nan, "message.temperature=nan: must be a number above 0"),
        (RegulariseDiscretise, -0.1, "message.noise=-0.1: must be a number of at least 0"),
        (RegulariseDiscretise, math.nan, "message.noise=nan: must be a number of at least 0"),
    ],
)
def test_what_is_refused(kind, value, said):
    with pytest.raises(UserError) as refused:
        kind(value)
    assert str(refused.value) == said


# -- in a simulation ------------------------------------------------------------------------------


def simulation(env: Any, agent: Any, encoder: MessageEncoder, **own: Any) -> Simulation:
    given: dict[str, Any] = {
        "clock": PoissonClock(0.7),
        "message_size": D,
        "num_worlds": B,
        "discrete": encoder,
        "optimizer": Adam(1e-2),
        "utility": UtilitySettings(GradientUtility, Adam(1e-2)),
        "evaluation": Evaluation(every=1000, episodes=1, num_worlds=B),
        "channel": standard_channel(delay=[0, 1]),
    }
    return Simulation(env, agent, **(given | own))


@each_encoder
@pytest.mark.parametrize("feedback", ["synthetic", "exact"])
def test_what_arrives(encoder, feedback, town, device):
    """In evaluation bits or symbols; in training what their noise made of them."""
    sim = simulation(town(num_agents=2), FeedForward, encoder, feedback=feedback, device=device)
    told: list = []  # inboxes
    for engine in (sim.engine, sim.examiner, sim.rehearser):
        engine.intervene = lambda time, lane, members, inbox: told.append(inbox) or inbox
    for engine in (sim.examiner, sim.rehearser):
        told.clear()
        engine.play(0)
        sent = torch.cat([inbox.messages[inbox.mask] for inbox in told])
        assert len(sent) > B
        assert set(sent.unique().tolist()) == {0.0, 1.0}
        if isinstance(encoder, GumbelSymbol):
            assert torch.equal(sent.sum(-1), torch.ones(len(sent), device=device))
    told.clear()
    sim.engine.play(0)
    sent = torch.cat([inbox.messages[inbox.mask] for inbox in told]).detach()
    if isinstance(encoder, GumbelSymbol):
        assert set(sent.unique().tolist()) == {0.0, 1.0}
    else:
        assert ((sent > 0) & (sent < 1)).all()
        assert len(sent.unique()) > len(sent)


@each_encoder
def test_the_same_seed_gives_the_same_messages(encoder, market, device):
    """Bit for bit; another seed gives others."""
    found = []
    for seed in (1, 1, 2):
        sim = simulation(market(), ActorCritic, encoder, seed=seed, device=device)
        sim.engine.play(0)
        found.append(sim.tensors())
    one, same, other = found
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


@each_encoder
def test_senders_learn_through_their_unit(encoder, town, device):
    """With feedback they become others than without, and with the true one others again."""
    found = []
    for feedback in ("none", "synthetic", "exact"):
        sim = simulation(town(num_agents=2), FeedForward, encoder, feedback=feedback, device=device)
        sim.engine.play(0)
        found.append(sim.populations[0].agents.module(0).message.weight)
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


@each_encoder
def test_evaluation_changes_nothing(encoder, market):
    found = []
    for every in (12, 1000):
        sim = simulation(
            market(), ActorCritic, encoder,
            evaluation=Evaluation(every=every, episodes=1, num_worlds=B),
        )  # fmt: skip
        sim.run(24)
        found.append(sim.tensors())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
