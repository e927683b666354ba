import math
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnicomm.errors import UserError
from dnicomm.sim.clock import (
    BurstyClock,
    Clock,
    GapClock,
    JitteredClock,
    PeriodicClock,
    PoissonClock,
    TraceClock,
    require_ticks,
)

seeds = st.integers(0, 2**32 - 1)
periods = st.integers(1, 20)
periodic = st.builds(PeriodicClock, period=periods, phase=st.integers(0, 30))
jittered = periods.flatmap(
    lambda period: st.builds(JitteredClock, st.just(period), st.integers(0, period - 1))
)
poisson = st.builds(PoissonClock, rate=st.floats(0.01, 1))
bursty = st.builds(BurstyClock, burst=st.floats(1, 20), silence=st.floats(1, 50))
trace = st.builds(
    TraceClock, times=st.lists(st.integers(0, 500), unique=True, max_size=30).map(sorted)
)
clocks = st.one_of(periodic, jittered, poisson, bursty, trace)


class EverySecond(Clock):
    """A clock as a user writes one: the base class does the rest."""

    def next(self, time, rng):
        return time + 2


def generator(seed=0):
    return np.random.default_rng(seed)


def iterated(clock, seed, horizon):
    """Ticks as an event loop takes them, one at a time."""
    rng = generator(seed)
    times, time = [], clock.first(rng)
    while time is not None and time < horizon:
        times.append(time)
        time = clock.next(time, rng)
    return times


@given(clocks, seeds, st.integers(0, 400))
def test_ticks_increase_strictly_inside_the_horizon(clock, seed, horizon):
    times = clock.ticks(generator(seed), horizon)
    assert times.dtype == np.int64
    assert (np.diff(times) > 0).all()
    assert ((times >= 0) & (times < horizon)).all()


@given(clocks, seeds, st.integers(0, 300), st.integers(0, 700))
def test_a_short_episode_is_the_beginning_of_a_long_one(clock, seed, short, more):
    brief = clock.ticks(generator(seed), short)
    long = clock.ticks(generator(seed), short + more)
    np.testing.assert_array_equal(brief, long[long < short])


@given(clocks, seeds, st.integers(0, 800))
def test_next_one_by_one_gives_the_same_ticks(clock, seed, horizon):
    assert iterated(clock, seed, horizon) == clock.ticks(generator(seed), horizon).tolist()


@given(clocks, seeds)
def test_event_loop_times_are_plain_integers(clock, seed):
    assert all(type(time) is int for time in iterated(clock, seed, 50))


@given(st.one_of(jittered, poisson, bursty), seeds)
def test_without_a_phase_everybody_ticks_at_zero(clock, seed):
    assert clock.ticks(generator(seed), 1).tolist() == [0]


@given(jittered, seeds)
def test_jittered_gaps_stay_in_bounds(clock, seed):
    gaps = np.diff(clock.ticks(generator(seed), 300))
    assert ((gaps >= clock.period - clock.jitter) & (gaps <= clock.period + clock.jitter)).all()


def test_jittered_gaps_are_all_equally_likely():
    gaps = np.diff(JitteredClock(period=4, jitter=3).ticks(generator(), 100_000))
    values, counts = np.unique(gaps, return_counts=True)
    assert values.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert counts / len(gaps) == pytest.approx(np.full(7, 1 / 7), abs=0.01)


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.5, 0.9])
def test_poisson_rate_and_memory(rate):
    times = PoissonClock(rate).ticks(generator(1), 100_000)
    assert len(times) / 100_000 == pytest.approx(rate, abs=0.01)
    gaps = np.diff(times)
    # Memoryless: a gap that has lasted 2 units lasts one more as often as a new gap does.
    if rate < 0.9:
        assert (gaps > 3).sum() / (gaps > 2).sum() == pytest.approx(1 - rate, abs=0.05)


def test_poisson_rate_one_ticks_always():
    assert PoissonClock(1).ticks(generator(), 1000).tolist() == list(range(1000))


@pytest.mark.parametrize("rate", [1e-6, 1e-18, 1e-300])
def test_hardly_ever_ticking_does_not_overflow(rate):
    times = PoissonClock(rate).ticks(generator(), 1000)
    assert times[0] == 0
    assert PoissonClock(rate).next(10, generator()) > 10
    assert BurstyClock(burst=1, silence=min(1 / rate, 1e308)).next(10, generator()) > 10


@pytest.mark.parametrize(("burst", "silence"), [(3, 5), (1, 1), (1, 4), (10, 1), (2.5, 20)])
def test_bursts_and_silences_have_their_means(burst, silence):
    times = BurstyClock(burst=burst, silence=silence).ticks(generator(2), 200_000)
    gaps = np.diff(times)
    pauses = gaps[gaps > 1]
    assert (pauses - 1).mean() == pytest.approx(silence, rel=0.05)
    assert len(times) / len(pauses) == pytest.approx(burst, rel=0.05)
    assert len(times) / 200_000 == pytest.approx(burst / (burst + silence), rel=0.05)


def test_periodic_ticks():
    assert PeriodicClock().ticks(generator(), 4).tolist() == [0, 1, 2, 3]
    assert PeriodicClock(3, phase=2).ticks(generator(), 9).tolist() == [2, 5, 8]
    assert PeriodicClock(3, phase=9).ticks(generator(), 9).tolist() == []


def test_trace_ticks():
    clock = TraceClock([0, 3, 4, 11])
    assert clock.ticks(generator(), 11).tolist() == [0, 3, 4]
    assert clock.next(3, generator()) == 4
    assert clock.next(11, generator()) is None
    assert TraceClock(()).first(generator()) is None


def test_a_clock_of_ones_own_needs_next_only():
    assert EverySecond().ticks(generator(), 5).tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("after", "allowed"),
    [(0, "integer later than 0"), (-1, "later than 0"), (0.5, "later than 0"), ("1", "later")],
)
def test_time_goes_on(after, allowed):
    class Stuck(Clock):
        def next(self, time, rng):
            return time + after if isinstance(after, int) else after

    with pytest.raises(UserError, match=rf"clock: Stuck\.next\(0, …\) is .*{allowed}"):
        Stuck().ticks(generator(), 5)


def test_time_begins_at_zero():
    class Early(EverySecond):
        def first(self, rng):
            return -1

    with pytest.raises(UserError, match=r"Early\.first\(…\) is -1; it must be .* at least 0"):
        Early().ticks(generator(), 5)


def test_gaps_go_on():
    class Flat(GapClock):
        def gaps(self, rng, count):
            return np.zeros(count, dtype=np.int64)

    with pytest.raises(UserError, match=r"clock: Flat\.gaps gave 0; .* at least 1"):
        Flat().ticks(generator(), 5)


def test_clocks_are_values():
    assert PoissonClock(0.5) == PoissonClock(0.5) != PoissonClock(0.25)
    assert PeriodicClock(2) != JitteredClock(2, 0)
    assert TraceClock([1, 2]) == TraceClock(np.array([1, 2]))
    assert len({TraceClock([1, 2]), TraceClock((1, 2)), PeriodicClock(1), PeriodicClock()}) == 2
    assert type(PeriodicClock(np.int64(3)).period) is int
    with pytest.raises(FrozenInstanceError):
        PeriodicClock(2).period = 3


def test_the_same_generator_gives_the_same_ticks():
    clock = BurstyClock(burst=3, silence=5)
    one, two = clock.ticks(generator(5), 500), clock.ticks(generator(5), 500)
    np.testing.assert_array_equal(one, two)
    assert one.tolist() != clock.ticks(generator(6), 500).tolist()


WRONG: list[tuple[type[Clock], tuple[Any, ...], str]] = [
    (PeriodicClock, (0,), "clock.period=0: must be an integer from 1"),
    (PeriodicClock, (2.0,), "clock.period=2.0: must be an integer from 1"),
    (PeriodicClock, ("2",), "clock.period='2': must be an integer from 1"),
    (PeriodicClock, (True,), "clock.period=True: must be an integer from 1"),
    (PeriodicClock, (None,), "clock.period=None: must be an integer from 1"),
    (PeriodicClock, (10**30,), "must be an integer from 1 to 2**40"),
    (PeriodicClock, (2, -1), "clock.phase=-1: must be an integer from 0"),
    (PeriodicClock, (2, math.nan), "clock.phase=nan: must be an integer from 0"),
    (JitteredClock, (0, 0), "clock.period=0: must be an integer from 1"),
    (JitteredClock, (3, -1), "clock.jitter=-1: must be an integer from 0"),
    (JitteredClock, (3, 1.5), "clock.jitter=1.5: must be an integer from 0"),
    (JitteredClock, (3, 3), "clock.jitter=3: must be below clock.period=3"),
    (PoissonClock, (-1,), "clock.rate=-1: must be in (0, 1]"),
    (PoissonClock, (0,), "clock.rate=0: must be in (0, 1]"),
    (PoissonClock, (1.01,), "clock.rate=1.01: must be in (0, 1]"),
    (PoissonClock, (math.nan,), "clock.rate=nan: must be in (0, 1]"),
    (PoissonClock, ("0.5",), "clock.rate='0.5': must be a number, in (0, 1]"),
    (PoissonClock, (True,), "clock.rate=True: must be a number, in (0, 1]"),
    (BurstyClock, (0.5, 5), "clock.burst=0.5: must be finite and at least 1"),
    (BurstyClock, (3, math.inf), "clock.silence=inf: must be finite and at least 1"),
    (BurstyClock, (3, [5]), "clock.silence=[5]: must be a number, finite and at least 1"),
    (TraceClock, ([3, 1],), "clock.times: 1 after 3: must be strictly increasing"),
    (TraceClock, ([1, 1],), "clock.times: 1 after 1: must be strictly increasing"),
    (TraceClock, ([-1],), "clock.times: -1: must be strictly increasing"),
    (TraceClock, ([0, 1.5],), "clock.times: 1.5 after 0: must be strictly increasing"),
    (TraceClock, ("123",), "clock.times='123': must be strictly increasing"),
    (TraceClock, (5,), "clock.times=5: must be strictly increasing"),
]


@pytest.mark.parametrize(("kind", "arguments", "message"), WRONG, ids=[row[2] for row in WRONG])
def test_wrong_arguments_are_named(kind, arguments, message):
    with pytest.raises(UserError) as error:
        kind(*arguments)
    assert message in str(error.value)


def test_require_ticks():
    require_ticks(np.array([0, 4]), "agent_0", horizon=1)
    require_ticks([4], "agent_0", horizon=5)
    for clock in (TraceClock([]), PeriodicClock(5, phase=10)):
        with pytest.raises(UserError, match="clock of agent_1: no tick in an episode of 10"):
            require_ticks(clock.ticks(generator(), 10), "agent_1", horizon=10)
