"""Times of things measured in turns, so that what else the machine does hits all of them alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from dnicomm.bench.stopwatch import stopwatch


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Of at least one value."""
        if len(values) == 1:
            return Spread(values[0], values[0], values[0])
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return Spread(statistics.median(values), low, high)


def in_turns(
    steps: Mapping[str, Callable[[], object]], rounds: int, calls: int = 1
) -> dict[str, list[float]]:
    """Seconds a call of each of ``steps``, ``[rounds]`` by name.

    In each round everything has its turn: one call that nobody times, for the caches are full of
    the one before, and then ``calls`` that count.
    """
    found: dict[str, list[float]] = {name: [] for name in steps}
    clock = stopwatch()
    for _ in range(rounds):
        for name, step in steps.items():
            step()
            start = clock()
            for _ in range(calls):
                step()
            found[name].append((clock() - start) / calls)
    return found


def ratio(times: Sequence[float], to: Sequence[float]) -> Spread:
    """Of times to others of the same rounds."""
    return Spread.of([a / b for a, b in zip(times, to, strict=True)])


@dataclass(frozen=True)
class Rates:
    """What the machine does at most, for floors.

    Args:
        product: multiply-accumulates a second of a product of 256 x 256 matrices.
        copy: bytes read and written a second, by the bytes of the tensor copied.
    """

    product: float
    copy: Mapping[int, float]

    def nearest(self, footprint: float) -> int:
        """Size of the copy that uses about so many bytes."""
        return min(self.copy, key=lambda size: abs(math.log(2 * size / footprint)))

    def bandwidth(self, footprint: float) -> float:
        """Bytes a second where so many bytes are in use."""
        return self.copy[self.nearest(footprint)]

    def seconds(self, macs: float, moved: float, footprint: float) -> float:
        """The least time of multiply-accumulates and bytes read and written."""
        return macs / self.product + moved / self.bandwidth(footprint)


def rates(rounds: int, largest: int, smallest: int = 2**18) -> Rates:
    """Measure them.

    Args:
        largest: bytes of the largest tensor that is copied, and ``smallest`` of the smallest.
    """
    a, b, out = (torch.randn(256, 256) for _ in range(3))
    products = in_turns({"product": lambda: torch.mm(a, b, out=out)}, rounds, 20)["product"]
    copies: dict[int, float] = {}
    size = smallest
    while size <= largest:
        source, target = torch.randn(size // 4), torch.empty(size // 4)
        calls = max(2**24 // size, 1)
        times = in_turns({"copy": lambda s=source, t=target: t.copy_(s)}, rounds, calls)["copy"]  # type: ignore[misc]
        copies[size] = 2 * size / statistics.median(times)
        size *= 4
    return Rates(256**3 / statistics.median(products), copies)
