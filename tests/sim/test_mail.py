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

from dnicomm.sim.mail import Mailbox, Parcel

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

    def __init__(self) -> None:
        self.all: list[Letter] = []
        self.flying: list[Letter] = []
        self.held: dict[tuple[int, int], Letter] = {}

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
        self.flying, self.held = [], {}


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
    ) -> None:
        self.members, self.inputs, self.worlds = members, inputs, worlds
        self.exact, self.first_only = exact, first_only
        self.device = torch.device(device)
        self.rng = np.random.default_rng(seed)
        self.box = Mailbox(members, inputs, worlds, SIZE, 1, self.device)
        self.letters = Letters()
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
            if self.fresh and self.chance(0.7):  # a window opens as it begins, or nobody is due
                count = self.rng.integers(1, self.members + 1)
                chosen = self.rng.choice(self.members, size=count, replace=False)
                self.window = np.sort(chosen).astype(np.int64)
                self.box.open_window(self.window)
            self.fresh = False
            if self.window is not None and self.chance(0.7):
                self.read(time)
            self.send(time)
            if self.chance(0.3):
                self.close()
        self.close()
        self.box.end_episode()
        self.letters.end()
        self.settle()
        assert all(letter.settled for letter in self.letters.all)

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
            letter = self.letters.held.get((int(window[chosen[i]]) * self.inputs + k, b))
            assert bool(mask[i, b, k]) == (letter is not None)
            if letter is None:
                assert age[i, b, k] == 0
                assert not messages[i, b, k].any()
                continue
            assert letter.arrival <= time
            assert age[i, b, k].item() == time - letter.sent_at
            np.testing.assert_array_equal(messages[i, b, k].detach().cpu().numpy(), letter.value)
            if active is not None and not active[i, b]:
                continue
            if not (self.first_only and letter.read_at):
                letter.cost += float(cost[i, b])
            letter.read_at.append(time)
            letter.gradient += weight[i, b, k]
            self.back[letter.number, b] += weight[i, b, k]

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
)
@settings(max_examples=100, deadline=None)
def test_every_message_has_the_life_that_the_documentation_tells(
    members, inputs, worlds, seed, length, exact, first_only
):
    story = Story(members, inputs, worlds, seed, exact, first_only)
    for _ in range(2):  # the second episode finds nothing of the first one
        story.episode(length)


@pytest.mark.parametrize("exact", [False, True])
def test_a_long_story(exact, device):
    story = Story(3, 2, 3, 7, exact, False, device)
    story.episode(60)
    lives = story.letters.all
    assert {len(letter.read_at) for letter in lives} >= {0, 1, 2, 3}  # it had all sorts of lives


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


def mailbox(members=1, inputs=1, worlds=1):
    return Mailbox(members, inputs, worlds, SIZE, 0, torch.device("cpu"))


def parcel(value, sent_at, arrival, slots=(0,)):
    value = torch.full((len(slots), 1, SIZE), float(value))
    mask = torch.ones(len(slots), 1, dtype=torch.bool)
    context = torch.zeros(len(slots), 1, 0)
    return Parcel(np.array(slots), value, context, mask, sent_at, arrival)


def test_a_held_message_collects_over_windows():
    """Read in three windows, settled once, with the sum of all it was told."""
    box = mailbox()
    box.send(parcel(1.0, 0, 1))
    box.deliver(1)
    for time in (1, 2, 3):
        box.open_window(np.array([0]))
        messages, _, _ = box.read(time, None, None)
        (messages * time).sum().backward()
        box.close_window([torch.full((1, 1), 10.0 * time)])
        assert not any(s.mask.any() for s in box.take_settlements())
    box.end_episode()
    (settlement,) = box.take_settlements()
    assert settlement.gradient[0, 0].tolist() == [6.0, 6.0]
    assert settlement.cost.item() == 60
    assert settlement.reads.item() == 3


def test_a_look_at_the_inbox_is_no_read():
    box = mailbox()
    box.send(parcel(2.0, 0, 1))
    box.deliver(1)
    box.open_window(np.array([0]))
    messages, mask, age = box.peek(4, np.array([0]))
    assert messages.flatten().tolist() == [2.0, 2.0]
    assert mask.item()
    assert age.item() == 4
    assert not messages.requires_grad
    box.close_window([])
    box.end_episode()
    assert sum(s.reads.sum().item() for s in box.take_settlements()) == 0


def test_messages_that_arrive_together_come_in_the_order_in_which_they_were_sent():
    box = mailbox()
    for sent_at, arrival in ((0, 5), (2, 5), (1, 5)):
        box.send(parcel(sent_at + 1, sent_at, arrival))
    box.deliver(5)
    box.open_window(np.array([0]))
    messages, _, age = box.read(5, None, None)
    assert messages.flatten().tolist() == [3.0, 3.0]
    assert age.item() == 3


def test_an_evaluation_reads_without_counting():
    box = mailbox()
    box.send(parcel(1.0, 0, 1))
    box.deliver(1)
    box.open_window(np.array([0]))
    with torch.no_grad():
        box.read(1, None, None)
    box.discard_window()
    box.open_window(np.array([0]))
    box.close_window([])
    box.end_episode()
    assert all(not s.reads.any() for s in box.take_settlements())


def test_an_agent_without_channels_has_an_empty_mailbox():
    box = mailbox(members=2, inputs=0)
    box.open_window(np.array([0, 1]))
    messages, mask, age = box.read(0, None, None)
    assert messages.shape == (2, 1, 0, SIZE)
    assert mask.shape == age.shape == (2, 1, 0)
    box.close_window([torch.zeros(2, 1)])
    box.end_episode()
    assert box.take_settlements() == []


def test_nothing_arrives_when_it_is_sent():
    with pytest.raises(ValueError, match="after it was sent"):
        mailbox().send(parcel(1.0, 3, 3))
