"""Vectors as symbols, words, bins and centres."""

import numpy as np
import pytest

from dnicomm.communication import Centres, as_symbols, as_words, positions
from dnicomm.communication.coding import leading_components


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_few_vectors_that_come_often_are_symbols(rng):
    said = rng.integers(5, size=100)
    vectors = rng.standard_normal((5, 8))[said] + 1e-7 * rng.standard_normal((100, 8))
    found = as_symbols(vectors)
    assert found is not None
    symbols, values = found
    assert len(values) == 5
    assert ((symbols[:, None] == symbols) == (said[:, None] == said)).all()
    assert values[symbols] == pytest.approx(vectors, abs=1e-5)


def test_activations_are_no_symbols(rng):
    assert as_symbols(rng.standard_normal((100, 8))) is None
    assert as_symbols(np.arange(10.0)[:, None]) is None  # each came once
    assert as_symbols(np.repeat(np.arange(100.0), 9)[:, None]) is None  # too many
    assert as_symbols(np.zeros((0, 3))) is None


def test_what_a_world_repeats_comes_once():
    """Ten worlds, of which each says a vector of its own again and again."""
    worlds = np.repeat(np.arange(10), 20)
    own = np.random.default_rng(0).standard_normal((10, 3))
    assert as_symbols(own[worlds]) is not None
    assert as_symbols(own[worlds], groups=worlds) is None
    shared = own[worlds % 2]
    assert (
        as_symbols(shared, groups=worlds)[0].tolist()
        == ((worlds % 2) ^ (own[0, 0] > own[1, 0])).tolist()
    )
    assert as_symbols(own[worlds], groups=np.zeros(200)) is not None  # one world alone
    assert len(as_symbols(np.eye(10)[worlds], groups=worlds)[1]) == 10  # one-hot is a symbol


def test_words():
    one_hot = np.eye(6)[[3, 0, 5]]
    assert as_words(one_hot).tolist() == [[3], [0], [5]]
    bits = np.array([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    assert as_words(bits).tolist() == [[0, 1, 1], [1, 1, 0]]
    assert as_words(np.arange(20.0).reshape(10, 2)) is None
    assert as_words(np.zeros((4, 0))) is None


def test_numbers_fall_into_bins_of_equal_shares(rng):
    vectors = rng.standard_normal((800, 2))
    vectors[:, 1] = np.exp(5 * vectors[:, 1])
    found = positions(vectors)
    assert found.shape == (800, 2)
    for column in found.T:
        assert np.bincount(column).tolist() == [100] * 8
    few = positions(np.stack([vectors[:, 0], rng.integers(3, size=800)], 1))
    assert set(few[:, 1]) == {0, 1, 2}
    assert positions(np.zeros((5, 0))).shape == (5, 0)


def test_leading_components_keep_distances_that_matter(rng):
    line = rng.standard_normal((50, 1)) * rng.standard_normal((1, 10))
    found = leading_components(line + 3, 2)
    far = np.linalg.norm(line[:, None] - line, axis=-1)
    assert np.abs(found[:, None, 0] - found[:, 0]) == pytest.approx(far)
    two = line[:, :2]
    assert leading_components(7 * two + 1, 4) == pytest.approx((two - two.mean(0)) / two.std(0))


def test_centres_part_what_lies_apart(rng):
    said = rng.integers(4, size=200)
    vectors = 10 * np.eye(4)[said] + rng.standard_normal((200, 4))
    code = Centres(vectors, 4, rng)
    assert code.size == 4
    found = code(vectors)
    assert ((found[:, None] == found) == (said[:, None] == said)).all()
    assert (code(vectors.reshape(10, 20, 4)) == found.reshape(10, 20)).all()


def test_symbols_are_their_own_centres(rng):
    vectors = rng.standard_normal((3, 5))[rng.integers(3, size=60)]
    code = Centres(vectors, 16, rng)
    assert code.size == 3
    assert len(np.unique(code(vectors))) == 3
    alone = Centres(np.ones((1, 2)), 16, rng)
    assert alone(np.zeros((7, 2))).tolist() == [0] * 7
