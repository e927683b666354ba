"""The life of messages, against a simulation that keeps one object for each message and world.

All numbers are small integers, so that sums in float32 are exact and equal means equal.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dnicomm.sim.mail import Mailbox
from dnicomm.sim.parcel import Parcel

SIZE = 2  # numbers in a message
SCALE = 3.0  # of a message in its sender's graph


@dataclass(eq=False)
class Letter:
    """One message in one world."""

    number: int  # the same in all worlds
    slot: int
    world: int
    value: np.ndarray
    sent_at: int
    arrival: int
    read_at: list[int] = field(default_factory=list)
    gradient: np.ndarray = field(default_factory=lambda: np.zeros(SIZE))
    cost: float = 0.0
    over: bool = False  # replaced, lost, overtaken or at the episode's end
    settled: bool = False


class Letters:
    """The reference: who holds what, by the words of the documentation."""

    def __init__(self, lifetime: int | None = None) -> None:
        self.lifetime = lifetime
        self.all: list[Letter] = []
        self.flying: list[Letter] = []
        self.held: dict[tuple[int, int], Letter] = {}
        self.born: dict[tuple[int, int], int] = {}  # member and world; else with the episode

    def seen(self, slot: int, inputs: int, world: int, time: int) -> Letter | None:
        """What a reader finds in a slot, if anything."""
        letter = self.held.get((slot, world))
        if letter is None or letter.sent_at < self.born.get((slot // inputs, world), 0):
            return None
        if self.lifetime is not None and time - letter.sent_at > self.lifetime:
            return None
        return letter

    def send(self, letter: Letter, lost: bool) -> None:
        self.all.append(letter)
        if lost:
            letter.over = True
        else:
            self.flying.append(letter)

    def deliver(self, time: int) -> None:
        arrived = [letter for letter in self.flying if letter.arrival <= time]
        self.flying = [letter for letter in self.flying if letter.arrival > time]
        for letter in arrived:
            place = (letter.slot, letter.world)
            before = self.held.get(place)
            if before is None or letter.sent_at > before.sent_at:
                self.held[place] = letter
                if before is not None:
                    before.over = True
            else:
                letter.over = True

    def end(self) -> None:
        for letter in [*self.flying, *self.held.values()]:
            letter.over = True
        self.flying, self.held, self.born = [], {}, {}


@dataclass
class Sent:
    """A parcel whose value is part of a sender's graph."""

    base: torch.Tensor  # [e, B, D] leaf
    numbers: list[int]
    interval: int  # between which window edges it was sent


class Story:
    """Plays one random story on a mailbox and on the reference, and compares all the way."""

    def __init__(
        self,
        members: int,
        inputs: int,
        worlds: int,
        seed: int,
        exact: bool,
        first_only: bool,
        device: torch.device | str = "cpu",
        lifetime: int | None = None,
        births: float = 0.0,
    ) -> None:
        self.members, self.inputs, self.worlds = members, inputs, worlds
        self.exact, self.first_only = exact, first_only
        self.device = torch.device(device)
        self.rng = np.random.default_rng(seed)
        self.births = births
        self.box = Mailbox(members, inputs, worlds, SIZE, 1, self.device, lifetime)
        self.letters = Letters(lifetime)
        self.sent: list[Sent] = []
        self.number = self.interval = 0
        self.fresh = True  # the last window has just ended
        self.window: np.ndarray | None = None
        self.losses: list[torch.Tensor] = []
        self.costs: list[torch.Tensor] = []
        # what the senders of this interval should get back: by (number, world)
        self.back: dict[tuple[int, int], np.ndarray] = defaultdict(lambda: np.zeros(SIZE))

    def integers(self, *shape: int) -> np.ndarray:
        return self.rng.integers(-4, 5, size=shape).astype(np.float32)

    def chance(self, probability: float, *shape: int) -> np.ndarray:
        return self.rng.random(shape) < probability

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(array)).to(self.device)

    def episode(self, length: int) -> None:
        for time in range(length):
            self.box.deliver(time)
            self.letters.deliver(time)
            self.renew(time)
            if self.fresh and self.chance(0.7):  # a window opens as it begins, or nobody is due
                count = self.rng.integers(1, self.members + 1)
                chosen = self.rng.choice(self.members, size=count, replace=False)
                self.window = np.sort(chosen).astype(np.int64)
                self.box.open_window(self.window)
            self.fresh = False
            if self.window is not None and self.chance(0.7):
                self.read(time)
            self.peek(time)
            self.send(time)
            if self.chance(0.3):
                self.close()
        self.close()
        self.box.end_episode()
        self.letters.end()
        self.settle()
        assert all(letter.settled for letter in self.letters.all)

    def renew(self, time: int) -> None:
        born = self.chance(self.births, self.members, self.worlds)
        if not born.any():  # a mailbox that nobody is born to has nothing to keep
            return
        self.box.begin_again(self.tensor(born), time)
        for place in zip(*np.nonzero(born), strict=True):
            self.letters.born[int(place[0]), int(place[1])] = time

    def send(self, time: int) -> None:
        slots = self.rng.permutation(self.members * self.inputs)
        slots = slots[: self.rng.integers(0, len(slots) + 1)].astype(np.int64)
        for part in np.array_split(slots, self.rng.integers(1, 3)):
            if len(part) == 0:
                continue
            shape = (len(part), self.worlds)
            base, mask = self.integers(*shape, SIZE), self.chance(0.8, *shape)
            lost = self.chance(0.3, *shape) if self.chance(0.5) else None
            arrival = time + int(self.rng.integers(1, 5))
            numbers = list(range(self.number, self.number + len(part)))
            self.number += len(part)
            leaf = self.tensor(base).requires_grad_(self.exact)
            self.sent.append(Sent(leaf, numbers, self.interval))
            context = np.broadcast_to(np.array(numbers, np.float32)[:, None, None], (*shape, 1))
            parcel = Parcel(
                part, leaf * SCALE, self.tensor(context), self.tensor(mask), time, arrival
            )
            self.box.send(parcel, None if lost is None else self.tensor(lost))
            for e, b in zip(*np.nonzero(mask), strict=True):
                letter = Letter(numbers[e], int(part[e]), int(b), base[e, b] * SCALE, time, arrival)
                self.letters.send(letter, lost is not None and bool(lost[e, b]))

    def read(self, time: int) -> None:
        window = self.window
        assert window is not None
        chosen = np.sort(
            self.rng.choice(len(window), size=self.rng.integers(1, len(window) + 1), replace=False)
        )
        positions = None if len(chosen) == len(window) else self.tensor(chosen)
        active = self.chance(0.7, len(chosen), self.worlds) if self.chance(0.6) else None
        messages, mask, age = self.box.read(
            time, positions, None if active is None else self.tensor(active)
        )
        assert messages.shape == (len(chosen), self.worlds, self.inputs, SIZE)
        assert mask.shape == age.shape == messages.shape[:3]
        # a loss of the empty places too: it must reach nobody
        weight, cost = self.integers(*messages.shape), self.integers(len(chosen), self.worlds)
        weight *= 1 if active is None else active[..., None, None]
        self.losses.append((messages * self.tensor(weight)).sum())
        self.costs.append(self.tensor(cost))
        for i, b, k in np.ndindex(*mask.shape):
            found = messages[i, b, k].detach(), mask[i, b, k], age[i, b, k]
            letter = self.found(int(window[chosen[i]]) * self.inputs + k, b, time, *found)
            if letter is None:
                continue
            if active is not None and not active[i, b]:
                continue
            if not (self.first_only and letter.read_at):
                letter.cost += float(cost[i, b])
            letter.read_at.append(time)
            letter.gradient += weight[i, b, k]
            self.back[letter.number, b] += weight[i, b, k]

    def found(
        self, slot: int, world: int, time: int, value: Tensor, mask: Tensor, age: Tensor
    ) -> Letter | None:
        """The letter that is there, by what a reader finds."""
        letter = self.letters.seen(slot, self.inputs, world, time)
        assert bool(mask) == (letter is not None)
        assert age.item() == (0 if letter is None else time - letter.sent_at)
        want = np.zeros(SIZE) if letter is None else letter.value
        np.testing.assert_array_equal(value.cpu().numpy(), want)
        assert letter is None or letter.arrival <= time
        return letter

    def peek(self, time: int) -> None:
        """A look is as a read, but that nobody is told of it."""
        messages, mask, age = self.box.peek(time, np.arange(self.members))
        assert not messages.requires_grad
        for i, b, k in np.ndindex(*mask.shape):
            self.found(i * self.inputs + k, b, time, messages[i, b, k], mask[i, b, k], age[i, b, k])

    def close(self) -> None:
        for sent in self.sent:
            if sent.base.grad is not None:
                sent.base.grad.zero_()
        loss = torch.stack(self.losses).sum() if self.losses else None
        if loss is not None and loss.requires_grad:
            loss.backward()
        if self.window is not None:
            self.box.close_window(self.costs, self.first_only)
        else:
            self.box.cut()
        self.check_senders()
        self.window, self.losses, self.costs = None, [], []
        self.back.clear()
        self.interval += 1
        self.fresh = True
        self.settle()

    def check_senders(self) -> None:
        """Exact: within a window the gradient goes back to the sender; none crosses its edge."""
        for sent in self.sent:
            got = sent.base.grad
            for e, b in np.ndindex(*sent.base.shape[:2]):
                want = np.zeros(SIZE)
                if self.exact and sent.interval == self.interval:
                    want = SCALE * self.back.get((sent.numbers[e], b), want)
                found = np.zeros(SIZE) if got is None else got[e, b].cpu().numpy()
                np.testing.assert_array_equal(found, want)

    def settle(self) -> None:
        waiting = {(x.number, x.world): x for x in self.letters.all if not x.settled}
        for settlement in self.box.take_settlements():
            assert len(set(settlement.slots.tolist())) == len(settlement.slots)
            mask = settlement.mask.cpu().numpy()
            for e, b in zip(*np.nonzero(mask), strict=True):
                letter = waiting.pop((int(settlement.context[e, b, 0]), int(b)))
                letter.settled = True
                assert letter.over
                assert letter.slot == settlement.slots[e]
                assert letter.sent_at == settlement.sent_at[e, b].item()
                value, gradient = settlement.value[e, b], settlement.gradient[e, b]
                assert not value.requires_grad
                assert not gradient.requires_grad
                np.testing.assert_array_equal(value.cpu().numpy(), letter.value)
                np.testing.assert_array_equal(gradient.cpu().numpy(), letter.gradient)
                assert settlement.cost[e, b].item() == letter.cost
                assert settlement.reads[e, b].item() == len(letter.read_at)
        # one that nobody can read any more does not wait for another window
        assert not any(letter.over for letter in waiting.values())


sizes = {"members": st.integers(1, 3), "inputs": st.integers(1, 2), "worlds": st.integers(1, 3)}


@given(
    **sizes,
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(1, 14),
    exact=st.booleans(),
    first_only=st.booleans(),
    lifetime=st.none() | st.integers(1, 6),
    births=st.sampled_from([0.0, 0.0, 0.15, 0.5]),
)
@settings(max_examples=100, deadline=None)
def test_every_message_has_the_life_that_the_documentation_tells(
    members, inputs, worlds, seed, length, exact, first_only, lifetime, births
):
    story = Story(members, inputs, worlds, seed, exact, first_only, "cpu", lifetime, births)
    for _ in range(2):  # the second episode finds nothing of the first one
        story.episode(length)


@pytest.mark.parametrize("exact", [False, True])
def test_a_long_story(exact, device):
    story = Story(3, 2, 3, 7, exact, False, device)
    story.episode(60)
    lives = story.letters.all
    assert {len(letter.read_at) for letter in lives} >= {0, 1, 2, 3}  # it had all sorts of lives


@pytest.mark.parametrize("exact", [False, True])
def test_a_long_story_of_short_lives(exact, device):
    """Mail that nobody sees any more is settled as it was read before."""
    story = Story(3, 2, 3, 8, exact, False, device, lifetime=4, births=0.1)
    story.episode(60)
    lives = story.letters.all
    assert {len(letter.read_at) for letter in lives} >= {0, 1, 2}
    assert all(t - letter.sent_at <= 4 for letter in lives for t in letter.read_at)


@given(members=st.integers(2, 3), inputs=st.integers(1, 2), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_slot_settles_in_the_same_order_whoever_shares_its_mailbox(members, inputs, seed):
    """What a utility model is fitted to, and in which order, is its own channel's affair."""
    worlds, length = 2, 12
    number, opened, orders = 0, [], [defaultdict(list), defaultdict(list)]
    rng = np.random.default_rng(seed)
    together = Mailbox(members, inputs, worlds, SIZE, 1, torch.device("cpu"))
    alone = [Mailbox(1, inputs, worlds, SIZE, 1, torch.device("cpu")) for _ in range(members)]

    def take(which, box, first):
        for settlement in box.take_settlements():
            for e, b in zip(*torch.nonzero(settlement.mask, as_tuple=True), strict=True):
                found = (int(settlement.context[e, b, 0]), int(b), int(settlement.reads[e, b]))
                orders[which][first + int(settlement.slots[e])].append(found)

    for time in range(length):
        for box in (together, *alone):
            box.deliver(time)
        if not opened and rng.random() < 0.6:
            opened = sorted(rng.choice(members, rng.integers(1, members + 1), replace=False))
            together.open_window(np.array(opened))
            for member in opened:
                alone[member].open_window(np.zeros(1, dtype=np.int64))
        if opened:
            together.read(time, None, None)
            for member in opened:
                alone[member].read(time, None, None)
        slots = np.flatnonzero(rng.random(members * inputs) < 0.7)
        if len(slots):
            value = torch.ones(len(slots), worlds, SIZE)
            ids = torch.arange(number, number + len(slots), dtype=torch.float32)
            number += len(slots)
            context = ids[:, None, None].expand(-1, worlds, 1)
            mask = torch.from_numpy(rng.random((len(slots), worlds)) < 0.7)
            arrival = time + int(rng.integers(1, 4))
            together.send(Parcel(slots, value, context, mask, time, arrival))
            for i, slot in enumerate(slots):
                own, at = np.array([slot % inputs]), slice(i, i + 1)
                alone[slot // inputs].send(
                    Parcel(own, value[at], context[at], mask[at], time, arrival)
                )
        if rng.random() < 0.3 or time == length - 1:
            if opened:
                reads = len(together._window.reads)
                together.close_window([torch.zeros(len(opened), worlds)] * reads)
                for member in opened:
                    alone[member].close_window([torch.zeros(1, worlds)] * reads)
            opened = []
            take(0, together, 0)
            for member, box in enumerate(alone):
                take(1, box, member * inputs)
    together.end_episode()
    take(0, together, 0)
    for member, box in enumerate(alone):
        box.end_episode()
        take(1, box, member * inputs)
    assert orders[0] == orders[1]
