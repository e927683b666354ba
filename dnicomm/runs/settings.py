"""Runs of one setting: what tells settings apart, and a figure's spread over their seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# of a run folder's configuration: what does not make two settings of one
APART = ("bench", "choices", "overrides", "seed", "logger")
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """A figure over seeds.

    Attributes:
        mean: over them.
        deviation: of the sample; None: there is one seed.
        count: of seeds.
    """

    mean: float
    deviation: float | None
    count: int

    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of the mean (Student's t); None below three seeds.

        That of two would go 12.7 standard errors to each side, and say nothing.
        """
        if self.deviation is None or self.count < 3:
            return None
        from scipy.special import stdtrit  # takes a while to import

        quantile = float(stdtrit(self.count - 1, (1 + CONFIDENCE) / 2))
        half = quantile * self.deviation / math.sqrt(self.count)
        return self.mean - half, self.mean + half


def spread(values: Sequence[float | None]) -> Spread | None:
    """The spread of the values that there are; None if there are none."""
    there = [float(value) for value in values if value is not None]
    if not there:
        return None
    deviation = statistics.stdev(there) if len(there) > 1 else None
    return Spread(statistics.fmean(there), deviation, len(there))


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Keys with dots for what lies below others."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        below = flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else None
        found |= {f"{prefix}{key}": value} if below is None else below
    return found
