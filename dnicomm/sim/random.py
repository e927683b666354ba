"""Random numbers that depend on what they are for, not on what was drawn before.

Each draw has a key: the seed, whom it is for, its purpose, the episode, the time. Nothing has to
be stored to resume a run, and an agent added at the end changes nobody else's numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def key_of(seed: int, *key: str | int) -> int:
    """A 128-bit number that identifies a draw."""
    text = repr((seed, *key)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """A counter-based generator (Philox) for one draw, on the host."""
    return np.random.Generator(np.random.Philox(key=key_of(seed, *key)))


class Generators:
    """The same for one key after another, quicker; each is good until the next call."""

    def __init__(self) -> None:
        self._philox = np.random.Philox(0)
        self._generator = np.random.Generator(self._philox)
        self._start = self._philox.state  # a dict of its own, with nothing drawn

    def __call__(self, seed: int, *key: str | int) -> np.random.Generator:
        number = key_of(seed, *key)
        halves = np.array([number % 2**64, number >> 64], dtype=np.uint64)
        self._start["state"]["key"] = halves
        self._philox.state = self._start
        return self._generator


@contextmanager
def torch_seed(seed: int, *key: str | int) -> Iterator[None]:
    """Torch's own generator seeded for one purpose, and put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        number = key_of(seed, *key) % 2**63
        if torch.cuda.is_available():
            torch.manual_seed(number)
        else:  # the same, without a record of who asked for the sake of a GPU that isn't there
            torch.default_generator.manual_seed(number)
        yield
