"""Delays, losses and distortions: closed forms, prefixes, straight-through, bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dnicomm.errors import UserError
from dnicomm.sim.channel import (
    Channel,
    Delay,
    Drop,
    Noise,
    Quantise,
    Series,
    standard_channel,
)

seeds = st.integers(0, 2**32 - 1)


def generator(seed=0):
    return np.random.default_rng(seed)


def message(seed=0, worlds=5, size=4):
    return torch.from_numpy(generator(seed).standard_normal((worlds, size)).astype(np.float32))


def test_a_perfect_channel():
    channel = Channel()
    assert channel.delays(generator(), 3).tolist() == [0, 0, 0]
    assert channel.lost(generator(), (3, 2)) is None
    assert not channel.distorts
    assert channel.distort(message(), generator()) is not None
    assert type(standard_channel()) is Delay
    assert not standard_channel().distorts
    assert standard_channel().lost(generator(), (3, 2)) is None


@given(seeds, st.integers(0, 5), st.integers(0, 5), st.integers(0, 200))
def test_delays_lie_in_their_range(seed, low, more, count):
    delays = Delay(low, low + more).delays(generator(seed), count)
    assert delays.shape == (count,)
    assert delays.dtype == np.int64
    assert ((delays >= low) & (delays <= low + more)).all()


def test_both_ends_of_the_range_occur():
    assert set(Delay(1, 3).delays(generator(), 200).tolist()) == {1, 2, 3}
    assert set(Delay(2).delays(generator(), 50).tolist()) == {2}
    assert set(standard_channel(delay=[0, 1]).delays(generator(), 50).tolist()) == {0, 1}


@given(seeds, st.integers(0, 40), st.integers(0, 40))
def test_a_short_episode_is_the_beginning_of_a_long_one(seed, short, more):
    channel = standard_channel(delay=[0, 3], drop=0.4)
    brief, long = (channel.delays(generator(seed), n) for n in (short, short + more))
    np.testing.assert_array_equal(brief, long[:short])
    brief, long = (channel.lost(generator(seed), (n, 3)) for n in (short, short + more))
    np.testing.assert_array_equal(brief, long[:short])


def test_the_share_of_losses():
    lost = Drop(0.3).lost(generator(), (200, 100))
    assert lost is not None
    assert lost.shape == (200, 100)
    assert lost.mean() == pytest.approx(0.3, abs=5 * (0.21 / 20_000) ** 0.5)
    assert Drop(0.0).lost(generator(), (2, 2)) is None
    assert Drop(1.0).lost(generator(), (50, 50)).all()


def test_noise_is_added():
    clean = message(1, 400, 50)
    noise = Noise(0.5).distort(clean, generator()) - clean
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(0.5, abs=0.02)
    assert Noise(0.5).distort(clean.double(), generator()).dtype == torch.float64
    assert torch.equal(Noise(0.0).distort(clean, generator()), clean)


@given(seeds, st.integers(1, 16))
@settings(deadline=None)
def test_quantised_to_levels(seed, bits):
    """No number moves further than half a step; least and largest stay; again is the same."""
    clean = message(seed)
    coarse = Quantise(bits).distort(clean, generator())
    step = (clean.amax(-1) - clean.amin(-1)) / (2**bits - 1)
    assert ((coarse - clean).abs() <= step[:, None] / 2 + 1e-5).all()
    torch.testing.assert_close(coarse.amin(-1), clean.amin(-1))
    torch.testing.assert_close(coarse.amax(-1), clean.amax(-1))
    assert all(len(row.unique()) <= 2**bits for row in coarse)
    torch.testing.assert_close(Quantise(bits).distort(coarse, generator()), coarse)


def test_one_bit_is_the_nearer_end():
    coarse = Quantise(1).distort(torch.tensor([[-1.0, -0.2, 0.2, 3.0]]), generator())
    assert coarse.tolist() == [[-1.0, -1.0, -1.0, 3.0]]


def test_a_message_without_a_range_stays():
    flat = torch.full((2, 3), 0.7)
    assert torch.equal(Quantise(4).distort(flat, generator()), flat)
    single = torch.tensor([[0.3], [-2.0]])
    assert torch.equal(Quantise(4).distort(single, generator()), single)


def test_worlds_are_quantised_apart():
    one, two = message(0), message(0)
    two[3] *= 100
    coarse, other = (Quantise(3).distort(m, generator()) for m in (one, two))
    keep = [0, 1, 2, 4]
    assert torch.equal(coarse[keep], other[keep])


def test_links_add_up():
    channel = Series((Delay(1), Quantise(2), Delay(2), Noise(0.0)))
    assert channel.delays(generator(), 4).tolist() == [3] * 4
    assert channel.distorts
    want = Quantise(2).distort(message(), generator())
    assert torch.equal(channel.distort(message(), generator()), want)
    assert channel.lost(generator(), (2, 2)) is None
    assert Series((Drop(1.0), Drop(0.0))).lost(generator(), (3, 2)).all()
    both = Series((Drop(0.5), Drop(0.5))).lost(generator(), (200, 100))
    assert both is not None
    assert both.mean() == pytest.approx(0.75, abs=0.02)
    empty = Series()
    assert not empty.distorts
    assert empty.delays(generator(), 2).tolist() == [0, 0]
    assert torch.equal(empty.distort(message(), generator()), message())


def test_the_standard_channel_quantises_before_the_noise():
    channel = standard_channel(delay=2, drop=0.5, noise=1e-3, quantise=1)
    assert [type(link) for link in channel.links] == [Quantise, Delay, Noise, Drop]
    assert channel.distorts
    near = channel.distort(torch.tensor([[0.0, 0.9, 1.0]]), generator())
    torch.testing.assert_close(near, torch.tensor([[0.0, 1.0, 1.0]]), atol=0.01, rtol=0)


def test_channels_are_values():
    assert standard_channel(delay=[0, 2], drop=0.1) == standard_channel(delay=(0, 2), drop=0.1)
    assert hash(standard_channel(noise=0.1)) == hash(standard_channel(noise=0.1))
    assert Delay(1) != Delay(2)


@pytest.mark.parametrize("delay", [-1, 1.5, [2, 1], [0, 1, 2], "3", [0, 0.5], True, None, ["a", 2]])
def test_bad_delays_are_refused(delay):
    with pytest.raises(UserError, match=r"channel\.delay=.*whole number"):
        standard_channel(delay=delay)


@pytest.mark.parametrize("drop", [-0.1, 1.1, float("nan"), "x", True, None])
def test_bad_losses_are_refused(drop):
    with pytest.raises(UserError, match=r"channel\.drop=.*from 0 to 1"):
        standard_channel(drop=drop)


@pytest.mark.parametrize("noise", [-1, float("inf"), float("nan"), "x", None])
def test_bad_noise_is_refused(noise):
    with pytest.raises(UserError, match=r"channel\.noise=.*at least 0"):
        standard_channel(noise=noise)


@pytest.mark.parametrize("bits", [0, 17, 2.0, True, "4"])
def test_bad_quantisation_is_refused(bits):
    with pytest.raises(UserError, match=r"channel\.quantise=.*1 to 16"):
        standard_channel(quantise=bits)
