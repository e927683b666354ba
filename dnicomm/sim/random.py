"""Random numbers that depend on what they are for, not on what was drawn before.

Each draw has a key: the seed, whom it is for, its purpose, the episode, the time. Nothing has to
be stored to resume a run, and an agent added at the end changes nobody else's numbers.
"""

from __future__ import annotations

import hashlib
import random
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


_spare: list[np.random.MT19937] = []  # to make one takes longer than all else in global_seed
_layers: list[_Globals] = []  # global_seed contexts that are open, in the order of their beginning


class _Globals:
    """State of numpy's and Python's global generators, to be put back."""

    def __init__(self) -> None:
        self.python = random.getstate()
        self.numpy = np.random.get_bit_generator()  # type: ignore[attr-defined]
        # the second number of a normal pair is kept outside of the bit generator
        kept = np.random.get_state(legacy=False)
        self.pair = kept if isinstance(kept, dict) and kept["has_gauss"] else None

    def put_back(self) -> None:
        random.setstate(self.python)
        np.random.set_bit_generator(self.numpy)  # type: ignore[attr-defined]
        if self.pair is not None:
            np.random.set_state(self.pair)


@contextmanager
def global_seed(seed: int, *key: str | int) -> Iterator[None]:
    """Torch's, numpy's and Python's global generators seeded, and put back afterwards.

    Environments and agents of other people draw from them. What they draw inside then depends on
    the key alone, and what the user draws outside goes on as if nothing had happened. It takes
    about 0.1 ms, once an episode.
    """
    number = key_of(seed, *key)
    own = _spare.pop() if _spare else np.random.MT19937(0)
    with torch_seed(seed, *key):
        before = _Globals()
        _layers.append(before)
        try:
            np.random.set_bit_generator(own)  # type: ignore[attr-defined]
            np.random.seed([number >> shift & 0xFFFFFFFF for shift in (0, 32, 64, 96)])
            random.seed(number)
            yield
        finally:
            place = _layers.index(before)
            del _layers[place]
            if place == len(_layers):
                before.put_back()
            else:  # another thread's has begun since, which puts back what was before this one
                vars(_layers[place]).update(vars(before))
            _spare.append(own)
