"""Random numbers depend on their key alone."""

import numpy as np
import pytest

from dnicomm.sim.random import Generators, generator

KEYS = [(0, "train", "clock", "a", 0), (0, "train", "clock", "b", 0), (2**70, "x"), (0,)]


def drawn(rng):
    """Of everything that a generator may keep between two draws."""
    return rng.integers(0, 2**32, 3, np.uint32), rng.random(5), rng.geometric(0.3, 4)


def test_generators_in_one_place_are_those_of_their_keys():
    generators = Generators()
    for key in [*KEYS, *KEYS[::-1]]:
        for ours, own in zip(drawn(generators(*key)), drawn(generator(*key)), strict=True):
            assert np.array_equal(ours, own)


@pytest.mark.parametrize("other", KEYS[1:])
def test_another_key_draws_other_numbers(other):
    assert not np.array_equal(generator(*KEYS[0]).random(4), generator(*other).random(4))
