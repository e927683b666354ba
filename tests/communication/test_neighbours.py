"""Mutual information by nearest neighbours: the Gaussian's closed form, and scikit-learn's."""

import math

import numpy as np
import pytest
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

from dnicomm.communication.neighbours import (
    distances,
    information_of_vector_and_symbol,
    information_of_vectors,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def _gaussians(rng, count, dimensions, correlation):
    x = rng.standard_normal((count, dimensions))
    noise = rng.standard_normal((count, dimensions))
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise


@pytest.mark.parametrize(("dimensions", "correlation"), [(1, 0.0), (1, 0.6), (1, 0.9), (2, 0.6)])
def test_vectors_with_the_closed_form_of_gaussians(rng, dimensions, correlation):
    x, y = _gaussians(rng, 1000, dimensions, correlation)
    true = -0.5 * dimensions * math.log(1 - correlation**2)
    found = information_of_vectors(distances(x, rng), distances(y, rng))
    assert found == pytest.approx(true, abs=0.08)


@pytest.mark.parametrize("dimensions", [1, 3])
def test_vectors_with_symbols_that_part_them(rng, dimensions):
    symbols = rng.integers(4, size=1000)
    apart = 10.0 * symbols[:, None] + rng.standard_normal((1000, dimensions))
    assert information_of_vector_and_symbol(distances(apart, rng), symbols) == pytest.approx(
        math.log(4), abs=0.03
    )
    mixed = rng.standard_normal((1000, dimensions))
    assert information_of_vector_and_symbol(distances(mixed, rng), symbols) == pytest.approx(
        0, abs=0.06
    )


def test_a_mixture_of_two_gaussians(rng):
    """Against the integral: the entropy of the mixture less that of a part."""
    symbols = rng.integers(2, size=2000)
    x = 2.0 * symbols + rng.standard_normal(2000)
    grid = np.linspace(-8, 10, 20001)
    density = (np.exp(-(grid**2) / 2) + np.exp(-((grid - 2) ** 2) / 2)) / math.sqrt(8 * math.pi)
    mixture = -np.trapezoid(density * np.log(density), grid)
    true = mixture - 0.5 * math.log(2 * math.pi * math.e)
    found = information_of_vector_and_symbol(distances(x, rng), symbols)
    assert found == pytest.approx(true, abs=0.05)


def test_both_agree_with_scikit_learn_on_numbers(rng):
    x, y = _gaussians(rng, 300, 1, 0.7)
    found = information_of_vectors(distances(x, rng), distances(y, rng))
    theirs = mutual_info_regression(x, y[:, 0], random_state=0)[0]
    assert found == pytest.approx(theirs, abs=1e-6)
    labels = np.where(y[:, 0] > 1.5, 1, (y[:, 0] > 0) * 2)
    labels[:3] = [7, 8, 8]  # one that comes once, two that come twice
    found = information_of_vector_and_symbol(distances(x, rng), labels)
    theirs = mutual_info_classif(x, labels, random_state=0)[0]
    assert found == pytest.approx(theirs, abs=1e-3)


def test_units_and_order_do_not_matter(rng):
    x, y = _gaussians(rng, 200, 2, 0.5)
    before = information_of_vectors(distances(x, rng), distances(y, rng))
    order = rng.permutation(200)
    after = information_of_vectors(
        distances(1000 * x[order][:, ::-1] + 5, rng), distances(-0.01 * y[order], rng)
    )
    assert after == pytest.approx(before, abs=1e-6)


def test_too_few_samples_say_nothing(rng):
    x = distances(rng.standard_normal((3, 1)), rng)
    assert math.isnan(information_of_vectors(x, x))
    assert math.isnan(information_of_vector_and_symbol(x, np.array([0, 1, 2])))
