"""Does a clock keep the contract of ``dnicomm.sim.Clock``?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dnicomm.sim import Clock
from dnicomm.testing.complaints import Complaints, Stop

HORIZON = 200
SEEDS = 5


def check_clock(clock: Clock) -> list[str]:
    """What a clock gets wrong."""
    found = Complaints()
    try:
        for seed in range(SEEDS):
            _check(clock, lambda seed=seed: np.random.default_rng(seed), found)  # type: ignore[misc]
    except Stop:
        pass
    return list(found)


def _check(clock: Clock, fresh: Callable[[], np.random.Generator], found: Complaints) -> None:
    one_by_one = _one_by_one(clock, fresh(), found)  # first: ticks may rely on it and never end
    with found.step("ticks failed"):
        times = _times(clock, fresh(), HORIZON, found)
    if not len(times):
        found.add(f"it never ticks in an episode of {HORIZON} units of world time")
    if len(times) and (times[0] < 0 or times[-1] >= HORIZON):
        found.add(f"ticks(rng, {HORIZON}) gives times that are not in 0 to {HORIZON - 1}")
    if (np.diff(times) < 1).any():
        found.fail("ticks do not get later and later: a gap is below 1")
    if not np.array_equal(times, _times(clock, fresh(), HORIZON, found)):
        found.fail("the same generator gives other ticks: draw from rng alone, and keep no state")
    short = _times(clock, fresh(), HORIZON // 3, found)
    if not np.array_equal(short, times[times < HORIZON // 3]):
        found.add("the ticks of a short episode are not the first ones of a longer one")
    if not np.array_equal(one_by_one, times):
        found.add("first and next give other ticks than ticks does")


def _one_by_one(clock: Clock, rng: np.random.Generator, found: Complaints) -> list[int]:
    times: list[int] = []
    with found.step("first or next failed"):
        time = clock.first(rng)
        while time is not None and time < HORIZON:
            times.append(time)
            time = clock.next(time, rng)
            if time is not None and time <= times[-1]:
                found.fail(f"next({times[-1]}, rng) gives {time}; the next tick must be later")
    return times


def _times(
    clock: Clock, rng: np.random.Generator, horizon: int, found: Complaints
) -> NDArray[np.int64]:
    times = np.asarray(clock.ticks(rng, horizon))
    if times.ndim != 1 or (times.size and not np.issubdtype(times.dtype, np.integer)):
        found.fail(f"ticks gives an array {list(times.shape)} of {times.dtype}; it must be one of "
                   "integers, one a tick")  # fmt: skip
    return times.astype(np.int64)
