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
