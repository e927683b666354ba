"""Clocks: at which world times an agent ticks. World time is an integer.

A clock is a value: equal arguments make equal clocks, and all that is random comes from the
generator it is handed. An agent needs one generator of its own an episode, since a clock may draw
further ahead than the ticks it gives back.
"""

from __future__ import annotations

import abc
import bisect
import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnicomm.errors import UserError

_LONGEST = 2**40  # world time; sums of a chunk of gaps stay far from the end of int64
_CHUNK = 256  # gaps drawn at once
_START = np.zeros(1, dtype=np.int64)


class Clock(abc.ABC):
    """Draws the tick times of one agent, an episode at a time.

    A clock holds no state: the same generator gives the same ticks, and the ticks of a short
    episode are the first ones of a longer episode.
    """

    def first(self, rng: np.random.Generator) -> int | None:
        """Time of the first tick; 0 unless the clock has a phase. None: it never ticks."""
        return 0

    @abc.abstractmethod
    def next(self, time: int, rng: np.random.Generator) -> int | None:
        """Time of the tick after the one at ``time`` (strictly later); None: no further tick."""

    def ticks(self, rng: np.random.Generator, horizon: int) -> NDArray[np.int64]:
        """Tick times in ``[0, horizon)``, strictly increasing.

        Raises:
            UserError: ``first`` or ``next`` gives something else.
        """
        times: list[int] = []
        time: int | None = self.first(rng)
        last = -1
        while time is not None:
            if not _is_integer(time) or time <= last:
                method = f"next({last}, …)" if times else "first(…)"
                allowed = f"an integer later than {last}" if times else "an integer of at least 0"
                raise UserError(
                    f"clock: {type(self).__name__}.{method} is {time!r}; "
                    f"it must be {allowed}, or None for no further tick"
                )
            if time >= horizon:
                break
            times.append(time)
            last, time = time, self.next(time, rng)
        return np.array(times, dtype=np.int64)


@dataclass(frozen=True)
class PeriodicClock(Clock):
    """A tick every ``period`` units of world time, the first one at ``phase``.

    Raises:
        UserError: ``period`` is below 1 or ``phase`` below 0, or one is no integer.
    """

    period: int = 1
    phase: int = 0

    def __post_init__(self) -> None:
        _integer(self, "period", 1)
        _integer(self, "phase", 0)

    def first(self, rng: np.random.Generator) -> int:
        return self.phase

    def next(self, time: int, rng: np.random.Generator) -> int:
        return time + self.period

    def ticks(self, rng: np.random.Generator, horizon: int) -> NDArray[np.int64]:
        return np.arange(self.phase, horizon, self.period, dtype=np.int64)


class GapClock(Clock):
    """A clock whose gaps between ticks are drawn independently of each other, from t = 0 on."""

    @abc.abstractmethod
    def gaps(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """``count`` gaps of at least 1, ``[count]``; the same as when drawn one by one."""

    def next(self, time: int, rng: np.random.Generator) -> int:
        return time + int(self.gaps(rng, 1)[0])

    def ticks(self, rng: np.random.Generator, horizon: int) -> NDArray[np.int64]:
        chunks, last = [_START], 0
        count = min(_CHUNK, horizon)  # more than that never fit
        while last < horizon:
            gaps = np.asarray(self.gaps(rng, count))
            least = gaps.min() if len(gaps) else None
            if least is None or least < 1:
                found = "nothing" if least is None else f"{least}"
                raise UserError(
                    f"clock: {type(self).__name__}.gaps gave {found}; "
                    f"each of its {count} gaps must be an integer of at least 1"
                )
            chunks.append(last + gaps.cumsum())
            last = int(chunks[-1][-1])
        times = np.concatenate(chunks)
        return times[: times.searchsorted(horizon)]


@dataclass(frozen=True)
class JitteredClock(GapClock):
    """Integer gaps spread evenly over ``period - jitter`` to ``period + jitter``.

    Raises:
        UserError: ``period`` is below 1, ``jitter`` not in 0 to ``period - 1`` (a larger one would
            ask for gaps below 1), or one is no integer.
    """

    period: int
    jitter: int

    def __post_init__(self) -> None:
        _integer(self, "period", 1)
        _integer(self, "jitter", 0)
        if self.jitter >= self.period:
            raise UserError(
                f"clock.jitter={self.jitter}: must be below clock.period={self.period}, "
                "since a gap between ticks is at least 1"
            )

    def gaps(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        low, high = self.period - self.jitter, self.period + self.jitter
        return rng.integers(low, high, size=count, endpoint=True)


@dataclass(frozen=True)
class PoissonClock(GapClock):
    """A tick in each unit of world time with probability ``rate``: a Poisson process on integers.

    An agent ticks at most once in a unit, so that the counts of a continuous process do not fit.
    Geometric gaps are what remains of one: the only integer gaps without memory, with mean
    ``1 / rate``, and close to exponential ones where ``rate`` is small. The tick at t = 0 is given.

    Raises:
        UserError: ``rate`` is not a number in (0, 1].
    """

    rate: float

    def __post_init__(self) -> None:
        _number(self, "rate", "in (0, 1]", lambda rate: 0 < rate <= 1)

    def gaps(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        return np.minimum(rng.geometric(self.rate, size=count), _LONGEST)


@dataclass(frozen=True)
class BurstyClock(GapClock):
    """Bursts of ticks at consecutive times, silences between them; both of random length.

    A burst has ``burst`` ticks in the mean, a silence ``silence`` units of world time without a
    tick. Both lengths are geometric and at least 1, so that the clock needs no memory of how long
    a burst has lasted. Over a long time it ticks ``burst / (burst + silence)`` times a unit.

    Raises:
        UserError: ``burst`` or ``silence`` is not a finite number of at least 1.
    """

    burst: float
    silence: float

    def __post_init__(self) -> None:
        _number(self, "burst", "finite and at least 1", lambda n: 1 <= n < math.inf)
        _number(self, "silence", "finite and at least 1", lambda n: 1 <= n < math.inf)

    def gaps(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        # Two uniform numbers a gap, used or not: then any number of gaps reads the same stream.
        ends, length = rng.random((count, 2)).T
        with np.errstate(divide="ignore", over="ignore"):  # silence=1 divides by log(0) = -inf
            silence = 1 + np.floor(np.log1p(-length) / np.log1p(-1 / self.silence))
        silence = np.minimum(silence, _LONGEST).astype(np.int64)
        return np.where(ends < 1 / self.burst, 1 + silence, 1)


@dataclass(frozen=True)
class TraceClock(Clock):
    """Ticks at the given ``times`` and at no others, e.g. from a log; may be empty.

    Raises:
        UserError: ``times`` are not strictly increasing integers from 0 on.
    """

    times: Sequence[int]  # stored as a tuple

    def __post_init__(self) -> None:
        allowed = "must be strictly increasing integers from 0 to 2**40"
        if isinstance(self.times, str) or not isinstance(self.times, Iterable):
            raise UserError(f"clock.times={self.times!r}: {allowed}")
        times: list[int] = []
        for time in self.times:
            last = times[-1] if times else -1
            if not _is_integer(time) or not last < time <= _LONGEST:
                where = f" after {last}" if times else ""
                raise UserError(f"clock.times: {time!r}{where}: {allowed}")
            times.append(int(time))
        object.__setattr__(self, "times", tuple(times))  # hashable, whatever came in

    def first(self, rng: np.random.Generator) -> int | None:
        return self.times[0] if self.times else None

    def next(self, time: int, rng: np.random.Generator) -> int | None:
        index = bisect.bisect_right(self.times, time)
        return self.times[index] if index < len(self.times) else None

    def ticks(self, rng: np.random.Generator, horizon: int) -> NDArray[np.int64]:
        return np.array(self.times[: bisect.bisect_left(self.times, horizon)], dtype=np.int64)


def ticks_of(agent: str, clock: Clock, rng: np.random.Generator, horizon: int) -> NDArray[np.int64]:
    """An agent's tick times; a note on what its clock raises says whose it is."""
    try:
        return clock.ticks(rng, horizon)
    except Exception as error:  # its author reads the traceback
        error.add_note(f"In the clock of {agent}, a {type(clock).__qualname__}.")
        raise


def require_ticks(times: Sequence[int] | NDArray[np.int64], agent: str, horizon: int) -> None:
    """Check that an agent ticks at all in an episode.

    Args:
        times: its tick times.
        agent: its name.
        horizon: length of the episode in world time.

    Raises:
        UserError: no time lies in ``[0, horizon)``.
    """
    if not any(0 <= time < horizon for time in times):
        raise UserError(
            f"clock of {agent}: no tick in an episode of {horizon} units of world time; "
            f"it needs one at 0 to {horizon - 1}"
        )


def _is_integer(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _integer(clock: Clock, key: str, low: int) -> None:
    """Check an integer field and store it as a plain one."""
    value = getattr(clock, key)
    if not _is_integer(value) or not low <= value <= _LONGEST:
        raise UserError(f"clock.{key}={value!r}: must be an integer from {low} to 2**40")
    object.__setattr__(clock, key, int(value))


def _number(clock: Clock, key: str, allowed: str, check: Callable[[float], bool]) -> None:
    """Check a number field and store it as a plain one."""
    value = getattr(clock, key)
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise UserError(f"clock.{key}={value!r}: must be a number, {allowed}")
    if not check(float(value)):
        raise UserError(f"clock.{key}={value!r}: must be {allowed}")
    object.__setattr__(clock, key, float(value))
