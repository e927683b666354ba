"""Returns and advantages under irregular clocks, in closed form: γ by world time, λ by tick."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dnicomm.sim import (
    SGD,
    Agent,
    Complete,
    Evaluation,
    Override,
    PeriodicClock,
    PoissonClock,
    Simulation,
    TickOutput,
)

GAMMA, T, B = 0.8, 12, 3


class Teller(Agent):
    """Takes the first number that it sees for its value, and notes what it is told."""

    def __init__(self, spec, told: list, normalises: bool = False, blind: bool = False) -> None:
        super().__init__(spec)
        self.told = [told]  # a list in a list: a copy of the agent has the same one
        self.normalises_advantages, self.blind = normalises, blind
        self.action = nn.Linear(spec.input_size, spec.action_size)
        self.message = nn.Linear(spec.input_size, spec.message_size)

    def __deepcopy__(self, memo):
        copy = Teller(self.spec, self.told[0], self.normalises_advantages, self.blind)
        copy.load_state_dict(self.state_dict())
        return copy

    def tick(self, observation, inbox, state) -> TickOutput:
        x = torch.cat([observation, inbox.flat()], -1)
        value = None if self.blind else observation[:, 0]
        return TickOutput(self.action(x), self.message(x), state, value)

    def loss(self, output, outcome):
        self.told[0].append(outcome)
        return output.action.square().sum(-1)


@dataclass
class Play:
    """One episode, and what each agent was told of its ticks."""

    sim: Any
    told: dict[str, list[Any]]
    ticks: dict[str, list[int]]
    window: int

    @property
    def length(self) -> int:
        return self.sim.engine.length

    def each(self) -> Iterator[tuple[int, int, int, Tensor, Tensor]]:
        """Agent, time, world, and the return and the advantage it was told, where it was there."""
        for agent, (name, told) in enumerate(self.told.items()):
            times = [t for t in self.ticks[name] if t < self.length]
            assert len(times) == len(told) > 1
            for time, outcome in zip(times, told, strict=True):
                for world in range(B):
                    if self.there(agent, time, world):
                        yield agent, time, world, outcome.returns[world], outcome.advantage[world]

    def there(self, agent: int, time: int, world: int) -> bool:
        env = self.sim.env
        going_on = env.last is None or time < env.last + world
        return going_on and (env.absent == 0 or bool(self.sim.world.here[time, agent, world]))

    def end(self, time: int) -> int:
        """The last time of the window that ``time`` is in."""
        return min((time // self.window + 1) * self.window, self.length) - 1

    def over(self, agent: int, time: int, world: int) -> bool:
        """Whether what happens from ``time`` on is nothing to who lived before."""
        env = self.sim.env
        if env.births and bool(self.sim.world.born[time, agent, world]):
            return True
        return time >= T if env.last is None else time >= env.last + world

    def value(self, agent: int, time: int, world: int) -> Tensor:
        return self.sim.world.seen[time, agent, world, 0]

    def stops(self, agent: int, time: int, world: int) -> tuple[list[int], bool]:
        """Times of the later ticks in the window, with that after its end; whether all is over.

        The last of them is where the life of the agent ends, if it does.
        """
        name, stops = f"agent_{agent}", list[int]()
        for later in range(time + 1, self.end(time) + 2):
            if self.over(agent, later, world):
                return [*stops, later], True
            tick = later in self.ticks[name] and self.there(agent, later, world)
            if tick or later == self.end(time) + 1:
                stops.append(later)
        return stops, False

    def until(self, agent: int, start: int, stop: int, world: int) -> Tensor:
        """Rewards from ``start`` to before ``stop``, discounted to ``start``."""
        found = torch.zeros(())
        for t in range(start, stop):
            found = found + GAMMA ** (t - start) * self.sim.world.paid[t][agent, world]
        return found


def play(env, window: int, gae_lambda: float, device, **agent) -> Play:
    told: dict[str, list[Any]] = {f"agent_{i}": [] for i in range(env.num_agents)}
    agents = {n: Override(partial(Teller, told=own, **agent), key=n) for n, own in told.items()}
    sim: Any = Simulation(
        env, partial(Teller, told=[]), agents=agents, gamma=GAMMA, gae_lambda=gae_lambda,
        window=window,
        clocks={"agent_0": PoissonClock(0.5), "agent_1": PeriodicClock(3)}, topology=Complete(),
        message_size=2, num_worlds=B, optimizer=SGD(0.0), device=device,
        evaluation=Evaluation(num_worlds=B),
    )  # fmt: skip
    sim.engine.play(0)
    ticks = {name: list(times) for name, times in sim.engine._schedule().items()}
    return Play(sim, told, ticks, window)


PLACES = [{}, {"absent": 0.4}, {"births": 0.25}, {"last": 9}, {"absent": 0.3, "births": 0.2}]
each_place = pytest.mark.parametrize("place", PLACES, ids=str)


@each_place
@pytest.mark.parametrize(("share", "window"), [(0.0, T), (0.6, 4), (0.6, T)])
def test_a_return_is_the_mean_over_horizons(share, window, place, market, double, device):
    """(1 - λ) λ^(j-1) of the return that ends with the value at the j-th later tick.

    The last of them has all that is left. After a true end, and at the beginning of another life,
    there is no value.
    """
    run = play(market(horizon=T, **place), window, share, device)
    for agent, time, world, returns, advantage in run.each():
        stops, over = run.stops(agent, time, world)
        want = torch.zeros(())
        for j, stop in enumerate(stops):
            last = j == len(stops) - 1
            value = 0.0 if last and over else run.value(agent, stop, world)
            ends = run.until(agent, time, stop, world) + GAMMA ** (stop - time) * value
            want = want + (share**j if last else (1 - share) * share**j) * ends
        torch.testing.assert_close(returns.cpu(), want.cpu())
        torch.testing.assert_close(advantage, returns - run.value(agent, time, world))


@each_place
def test_an_advantage_is_the_sum_of_surprises(place, market, double, device):
    """Generalised advantage estimation: (γ^Δ λ^j) of the j-th one-step error."""
    share, run = 0.6, play(market(horizon=T, **place), T, 0.6, device)
    for agent, time, world, _, advantage in run.each():
        stops, over = run.stops(agent, time, world)
        want, here = torch.zeros(()), time
        for j, stop in enumerate(stops):
            gone = over and j == len(stops) - 1
            after = 0.0 if gone else run.value(agent, stop, world)
            surprise = (
                run.until(agent, here, stop, world)
                + GAMMA ** (stop - here) * after
                - run.value(agent, here, world)
            )
            want = want + GAMMA ** (here - time) * share**j * surprise
            here = stop
        torch.testing.assert_close(advantage.cpu(), want.cpu())


@each_place
def test_with_lambda_1_only_what_was_paid_counts(place, market, double, device):
    """Up to the window's end: whatever the values at ticks between are."""
    run = play(market(horizon=T, **place), 5, 1.0, device)
    for agent, time, world, returns, _ in run.each():
        stops, over = run.stops(agent, time, world)
        value = 0.0 if over else run.value(agent, stops[-1], world)
        want = run.until(agent, time, stops[-1], world) + GAMMA ** (stops[-1] - time) * value
        torch.testing.assert_close(returns.cpu(), want.cpu())


def test_who_has_no_value_has_all_that_is_paid(market, double, device):
    """Whatever λ is; its advantage is its return."""
    found = [play(market(horizon=T, absent=0.3), 5, s, device, blind=True) for s in (0.3, 1.0)]
    for one, other in zip(found[0].each(), found[1].each(), strict=True):
        assert one[:3] == other[:3]
        agent, time, world, returns, advantage = one
        assert returns == advantage == other[3]
        want = found[0].until(agent, time, found[0].end(time) + 1, world)
        torch.testing.assert_close(returns.cpu(), want.cpu())


def test_without_rewards_there_is_nothing(town, device):
    told: list = []
    sim = Simulation(
        town(num_agents=1), partial(Teller, told=told), clock=PeriodicClock(1), window=4,
        num_worlds=B, message_size=2, evaluation=Evaluation(num_worlds=B), device=device,
    )  # fmt: skip
    sim.engine.play(0)
    assert told
    for outcome in told:
        for part in (outcome.returns, outcome.advantage, outcome.log_policy):
            assert torch.equal(part, torch.zeros(B, device=device))


# -- normalised -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "window"), [({}, 4), ({"absent": 0.4}, T), ({"last": 9}, 4)], ids=str
)
def test_advantages_are_normalised_over_a_members_window(window, place, market, double, device):
    """Mean 0 and deviation 1 over the ticks and worlds in which it was there; in their order."""
    raw = play(market(horizon=T, **place), window, 0.9, device)
    normalised = play(market(horizon=T, **place), window, 0.9, device, normalises=True)
    parts: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for one, other in zip(raw.each(), normalised.each(), strict=True):
        agent, time, _, returns, advantage = one
        assert returns == other[3]
        key = agent, raw.end(time)
        parts.setdefault(key, []).append((advantage.item(), other[4].item()))
    for pairs in parts.values():
        before, after = np.array(pairs).T
        want = (before - before.mean()) / (before.std() + 1e-6)
        np.testing.assert_allclose(after, want, rtol=1e-9, atol=1e-12)
    assert any(len(pairs) > B for pairs in parts.values())


def test_stacked_advantages_are_each_members_own(market, double, device):
    """Two members of one population, one of which is paid a hundred times as much."""

    def advantages(keys):
        told: list = []

        class Quiet(Teller):
            def __init__(self, spec):
                super().__init__(spec, [], normalises=True)

            def __deepcopy__(self, memo):
                copy = Quiet(self.spec)
                copy.load_state_dict(self.state_dict())
                return copy

            def loss(self, output, outcome):  # carries the advantage out of the map
                return output.action.sum(-1) * 0 + outcome.advantage

        env = market(horizon=T, absent=0.3)
        agents = {f"agent_{i}": Override(key=key) for i, key in enumerate(keys)}
        sim = Simulation(
            env, Quiet, agents=agents, gamma=GAMMA, window=5, message_size=2, num_worlds=B,
            clocks={"agent_0": PoissonClock(0.5), "agent_1": PeriodicClock(3)},
            optimizer=SGD(0.0), evaluation=Evaluation(num_worlds=B), device=device,
        )  # fmt: skip
        own = sim.engine.uniform
        sim.engine.uniform = lambda *given: torch.full_like(own(*given), 0.5)
        for population in sim.populations:
            meter = population.agent_meter

            def add(name, rows, values, population=population, plain=meter.add):
                if name == "loss":
                    told.extend(
                        (population.names[int(r)], v)
                        for r, v in zip(rows, values.tolist(), strict=True)
                    )
                plain(name, rows, values)

            meter.add = add
        step = sim.world.step

        def paid():
            rewards = step().clone()
            rewards[1] *= 100
            return rewards

        sim.world.step = paid
        sim.engine.play(0)
        by_name: dict[str, list[float]] = {}
        for name, value in told:
            by_name.setdefault(name, []).append(value)
        return by_name

    together, alone = advantages(("a", "a")), advantages(("a", "b"))
    assert together.keys() == alone.keys() == {"agent_0", "agent_1"}
    for name, values in alone.items():
        assert together[name] == pytest.approx(values, rel=1e-9, abs=1e-12)
        assert np.abs(values).max() > 0.1


def spoiled(env, device, offset: float, scale: float, **agent) -> Play:
    """As :func:`play` in float32, with other pay, and no finite values where nobody is."""
    told: dict[str, list[Any]] = {f"agent_{i}": [] for i in range(env.num_agents)}
    agents = {n: Override(partial(Teller, told=own, **agent), key=n) for n, own in told.items()}
    sim: Any = Simulation(
        env, partial(Teller, told=[]), agents=agents, gamma=1.0, window=T,
        clock=PeriodicClock(1), message_size=2,
        num_worlds=B, optimizer=SGD(0.0), evaluation=Evaluation(num_worlds=B), device=device,
    )  # fmt: skip
    step, reset = sim.world.step, sim.world.reset

    def begin(episode, rng):
        reset(episode, rng)
        sim.world.seen[..., 0] = 0.0
        if env.absent:
            sim.world.seen[..., 0][~sim.world.here] = torch.nan

    def paid():  # all in the last step: each tick's return is the same but for its world's
        rewards = step() * scale
        return rewards * 0 if sim.world.time < T else rewards + offset

    sim.world.reset, sim.world.step = begin, paid
    sim.engine.play(0)
    return Play(sim, told, {n: list(range(T)) for n in told}, T)


def test_small_differences_of_large_advantages_are_seen(market, device):
    """A spread of a hundredth about 50 000, in float32."""
    run = spoiled(market(horizon=T), device, 5e4, 1e-2, normalises=True)
    by_agent: dict[int, list[float]] = {}
    for agent, _, _, _, advantage in run.each():
        by_agent.setdefault(agent, []).append(advantage.item())
    for values in by_agent.values():
        assert np.mean(values) == pytest.approx(0, abs=1e-5)
        assert np.std(values) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("offset", [0.0, 0.1, 51.3, 5e4])
def test_equal_advantages_are_nothing(offset, market, device):
    run = spoiled(market(horizon=T), device, offset, 0.0, normalises=True)
    assert all(abs(advantage) < 1e-4 for *_, advantage in run.each())


def test_what_an_absent_agent_expects_is_of_no_account(market, device):
    run = spoiled(market(horizon=T, absent=0.3), device, 0.0, 1.0, normalises=True)
    values = [advantage.item() for *_, advantage in run.each()]
    assert np.isfinite(values).all()
    assert np.std(values) == pytest.approx(1, abs=0.2)
