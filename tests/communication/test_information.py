"""Entropy and mutual information by counting: closed forms, corrections, invariances."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import mutual_info_score

from dnicomm.communication import entropy, mutual_information
from dnicomm.communication.information import contingency, entropy_of_counts, information_of_counts

pairs = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        arrays(np.int64, n, elements=st.integers(-3, 4)),
        arrays(np.int64, n, elements=st.integers(0, 5)),
    )
)


def test_entropy_of_equal_shares_is_the_logarithm():
    assert entropy(np.repeat(np.arange(8), 5), corrected=False) == pytest.approx(math.log(8))
    assert entropy(np.full(9, 3)) == 0
    assert math.isnan(entropy(np.zeros(0, dtype=int)))


def test_entropy_is_corrected_by_miller_and_madow():
    symbols = np.array([0, 0, 0, 1, 2, 2])
    plain = -(1 / 2 * math.log(1 / 2) + 1 / 6 * math.log(1 / 6) + 1 / 3 * math.log(1 / 3))
    assert entropy(symbols, corrected=False) == pytest.approx(plain)
    assert entropy(symbols) == pytest.approx(plain + 2 / 12)


def test_information_of_tables_with_closed_forms():
    assert information_of_counts(np.eye(5)) == pytest.approx(math.log(5))
    assert information_of_counts(np.outer([1, 2, 5], [3, 4])) == pytest.approx(0, abs=1e-12)
    error = 0.1  # a binary symmetric channel
    table = np.array([[1 - error, error], [error, 1 - error]]) / 2
    noise = -error * math.log(error) - (1 - error) * math.log(1 - error)
    assert information_of_counts(table) == pytest.approx(math.log(2) - noise)
    assert math.isnan(information_of_counts(np.zeros((2, 2))))


def test_the_correction_takes_the_bias_of_a_full_table_away():
    counts = np.array([[3, 5, 2], [4, 4, 6]])
    plain, corrected = (information_of_counts(counts, c) for c in (False, True))
    assert plain - corrected == pytest.approx((2 - 1) * (3 - 1) / (2 * counts.sum()))


def test_independent_symbols_have_no_information_on_average():
    rng = np.random.default_rng(0)
    draws = [(rng.integers(6, size=200), rng.integers(5, size=200)) for _ in range(200)]
    plain = np.mean([mutual_information(x, y, corrected=False) for x, y in draws])
    corrected = np.mean([mutual_information(x, y) for x, y in draws])
    assert plain == pytest.approx(5 * 4 / 400, rel=0.1)  # what the bias is said to be
    assert abs(corrected) < 0.1 * plain


def test_contingency_counts_pairs():
    assert contingency([5, 5, 7, 5], [1, 0, 1, 1]).tolist() == [[1, 2], [0, 1]]
    with pytest.raises(ValueError, match="as many"):
        contingency([1, 2], [1])
    with pytest.raises(ValueError, match=r"\[n\]"):
        contingency(np.zeros((2, 2)), [1, 1])


@given(pairs)
@settings(max_examples=60, deadline=None)
def test_information_is_that_of_scikit_learn_and_within_its_bounds(pair):
    x, y = pair
    found = mutual_information(x, y, corrected=False)
    assert found == pytest.approx(mutual_info_score(x, y), abs=1e-9)
    assert 0 <= found <= min(entropy(x, False), entropy(y, False)) + 1e-9
    assert found == pytest.approx(mutual_information(y, x, corrected=False), abs=1e-12)


@given(pairs, st.permutations(range(-3, 5)))
@settings(max_examples=60, deadline=None)
def test_new_names_for_symbols_change_nothing(pair, names):
    x, y = pair
    renamed = np.array(names)[x + 3] * 7
    assert mutual_information(renamed, y) == pytest.approx(mutual_information(x, y), abs=1e-12)
    assert entropy(renamed) == pytest.approx(entropy(x), abs=1e-12)


def test_counts_of_any_shape_have_an_entropy():
    assert entropy_of_counts(np.full((2, 3), 4.0)) == pytest.approx(math.log(6))
