"""Seeds for the spaces of an environment, of which it may draw samples.

A space that nobody has seeded draws its own seed from the system at its first ``sample()``, so that
no two runs are alike. Environments rarely seed their spaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class SpaceSeeds:
    """The generators of some spaces and of all that is inside of them.

    Args:
        whole: the spaces; one that is there several times counts once.
    """

    def __init__(self, whole: Iterable[gymnasium.Space]) -> None:
        found = {id(part): part for space in whole for part in _parts(space)}
        self._spaces = list(found.values())
        for space in self._spaces:  # at first a whole one seeds its parts, which others may share
            space.np_random  # noqa: B018

    def draw(self, rng: np.random.Generator) -> None:
        """Seed all of them from ``rng``; an environment that seeds them itself does so later."""
        words = rng.integers(2**64, size=(len(self._spaces), 4), dtype=np.uint64).tolist()
        for space, (a, b, c, d) in zip(self._spaces, words, strict=True):
            if type(space.np_random.bit_generator) is not np.random.PCG64:  # somebody gave it one
                space.seed(a >> 32)
            bits = space.np_random.bit_generator
            if type(bits) is np.random.PCG64:  # in a tenth of the time of seed()
                state: Any = {"state": a << 64 | b, "inc": c << 64 | d | 1}
                now: Any = {"bit_generator": "PCG64", "state": state}
                bits.state = now | {"has_uint32": 0, "uinteger": 0}


def _parts(space: gymnasium.Space) -> Iterator[gymnasium.Space]:
    """A space and those that it is made of."""
    yield space
    inner: list[gymnasium.Space | None] = []
    if isinstance(space, spaces.Dict):
        inner += space.spaces.values()
    elif isinstance(space, spaces.Tuple | spaces.OneOf):
        inner += space.spaces
    elif isinstance(space, spaces.Sequence):
        inner.append(space.feature_space)
    elif isinstance(space, spaces.Graph):
        inner += [space.node_space, space.edge_space]
    for part in inner:
        if part is not None:
            yield from _parts(part)
