"""Causal influence and positive listening: closed forms, bounds, and the Gaussian's."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import erf, log_softmax

from dnicomm.communication import (
    causal_influence,
    gaussian_causal_influence,
    gaussian_kl_divergence,
    gaussian_l1_distance,
    kl_divergence,
    l1_distance,
)

policies = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-20, 20))
)


@pytest.mark.parametrize("messages", [2, 4, 16])
def test_an_ignoring_listener_scores_zero(messages):
    """A plain mean over messages would make it ln K."""
    policy = log_softmax(np.random.default_rng(0).standard_normal((3, 1, 5)), -1)
    assert (causal_influence(np.repeat(policy, messages, 1)) == 0).all()


@pytest.mark.parametrize("messages", [2, 4, 16])
def test_a_copying_listener_scores_the_logarithm(messages):
    with np.errstate(divide="ignore"):
        copying = np.log(np.eye(messages))[None]
    assert causal_influence(copying) == pytest.approx([math.log(messages)])


def test_it_is_averaged_over_situations_and_not_taken_of_averages():
    """Half of the situations copy, the others do the opposite: together they look indifferent."""
    with np.errstate(divide="ignore"):
        copying = np.log(np.stack([np.eye(2), np.eye(2)[::-1]]))
    assert causal_influence(copying).mean() == pytest.approx(math.log(2))


def test_messages_count_as_often_as_they_come():
    with np.errstate(divide="ignore"):
        copying = np.log(np.eye(3))[None]
    weights = np.array([0.5, 0.25, 0.25])
    assert causal_influence(copying, weights) == pytest.approx([1.5 * math.log(2)])
    assert causal_influence(copying, 8 * weights) == pytest.approx([1.5 * math.log(2)])
    never = causal_influence(copying, np.array([1.0, 0.0, 0.0]))
    assert never == pytest.approx([0.0])
    with pytest.raises(ValueError, match="weights"):
        causal_influence(copying, np.array([1.0, -1.0, 0.0]))


@given(policies, st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_bounds_and_names(scores, random):
    policy = log_softmax(scores, -1)
    situations, messages, actions = policy.shape
    found = causal_influence(policy)
    marginal = np.exp(policy).mean(1)
    size = -(marginal * np.log(np.where(marginal > 0, marginal, 1))).sum(-1)
    assert (found >= 0).all()
    assert (found <= np.minimum(math.log(messages), size) + 1e-9).all()
    ways = [random.sample(range(n), n) for n in (situations, messages, actions)]
    renamed = causal_influence(policy[np.ix_(*ways)])
    assert renamed == pytest.approx(found[ways[0]], abs=1e-9)


def test_distances_of_policies():
    p, q = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    assert l1_distance(p, q) == pytest.approx(0.5)
    assert kl_divergence(p, q) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    with np.errstate(divide="ignore"):
        left, right = np.log([1.0, 0.0]), np.log([0.0, 1.0])
    assert l1_distance(left, right) == 2
    assert kl_divergence(left, right) == math.inf
    assert kl_divergence(left, left) == 0
    assert kl_divergence(left, p) == pytest.approx(math.log(2))


# -- continuous actions ---------------------------------------------------------------------------


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_gaussian_listener_that_ignores_scores_exactly_zero(rng):
    mean = np.repeat(rng.standard_normal((4, 1, 3)), 5, 1)
    assert (gaussian_causal_influence(mean, np.zeros_like(mean), rng) == 0).all()
    assert (gaussian_l1_distance(mean, 0 * mean, mean, 0 * mean, rng) == 0).all()
    assert (gaussian_kl_divergence(mean, 0 * mean, mean, 0 * mean) == 0).all()


def test_a_gaussian_listener_that_copies_scores_the_logarithm(rng):
    mean = 100.0 * np.arange(6)[None, :, None] * np.ones((2, 6, 2))
    found = gaussian_causal_influence(mean, np.zeros_like(mean), rng)
    assert found == pytest.approx(np.full(2, math.log(6)))
    weights = np.array([1, 1, 2, 4, 4, 4]) / 16
    entropy = -(weights * np.log(weights)).sum()
    found = gaussian_causal_influence(mean, np.zeros_like(mean), rng, weights)
    assert found == pytest.approx(np.full(2, entropy))


def test_two_overlapping_gaussians_against_the_integral(rng):
    mean = np.array([[[0.0], [2.0]]])
    grid = np.linspace(-8, 10, 20001)
    density = (np.exp(-(grid**2) / 2) + np.exp(-((grid - 2) ** 2) / 2)) / math.sqrt(8 * math.pi)
    mixture = -np.trapezoid(density * np.log(density), grid)
    true = mixture - 0.5 * math.log(2 * math.pi * math.e)
    found = gaussian_causal_influence(mean, np.zeros_like(mean), rng, draws=20_000)
    assert found == pytest.approx([true], abs=0.01)


@pytest.mark.parametrize("shift", [0.3, 2.0])
def test_distances_of_gaussians(rng, shift):
    zero, mean = np.zeros((1, 2)), np.array([[shift, 0.0]])
    assert gaussian_kl_divergence(mean, zero, zero, zero) == pytest.approx([shift**2 / 2])
    wide = np.full((1, 2), math.log(2.0))
    true = 2 * (math.log(2) + (1 / 4 - 1) / 2)
    assert gaussian_kl_divergence(zero, zero, zero, wide) == pytest.approx([true])
    found = gaussian_l1_distance(mean, zero, zero, zero, rng, draws=40_000)
    assert found == pytest.approx([2 * erf(shift / math.sqrt(8))], abs=0.01)
