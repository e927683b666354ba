"""Runs of one setting: what tells settings apart, and a figure's spread over their seeds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

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


class Configured(Protocol):
    """A run as far as its setting goes."""

    @property
    def path(self) -> Path: ...
    @property
    def config(self) -> Mapping[str, Any]: ...


R = TypeVar("R", bound=Configured)


def keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a run's setting, with dotted keys."""
    return flat({key: value for key, value in config.items() if key not in APART})


def grouped(runs: Iterable[R], kind: Callable[[R], object]) -> tuple[list[list[R]], list[str]]:
    """Runs that differ by their seed alone, in the order of seeds; settings as they were found.

    Of two with one seed the later folder counts. Runs whose configuration isn't known stay alone.

    Args:
        kind: what else makes a setting, for JSON.

    Returns:
        The groups, and a sentence for each run that another one replaced, without its full stop.
    """
    groups: dict[str, dict[int | str, R]] = {}
    repeated = []
    for run in runs:
        own = keys(run.config)
        same = json.dumps([kind(run), own], sort_keys=True, default=str)
        group = groups.setdefault(same if own else str(run.path), {})
        seed = run.config.get("seed")
        seed = seed if isinstance(seed, int) else str(run.path)
        if seed in group:
            repeated.append(f"{group[seed].path}: run again with the same seed in {run.path}")
        group[seed] = run
    ordered = [
        [group[seed] for seed in sorted(group, key=lambda seed: (isinstance(seed, str), seed))]
        for group in groups.values()
    ]
    return ordered, repeated


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Keys with dots for what lies below others."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        below = flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else None
        found |= {f"{prefix}{key}": value} if below is None else below
    return found
