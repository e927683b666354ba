"""Single cases of a mailbox, with numbers that can be added up by hand."""

import numpy as np
import pytest
import torch

from dnicomm.sim.mail import Mailbox
from dnicomm.sim.parcel import Parcel

SIZE = 2  # numbers in a message


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


def test_mail_is_seen_for_its_lifetime():
    """Sent at 2: of age 3 at 5, and no more at 6; nothing that is told there reaches it."""
    box = Mailbox(1, 1, 1, SIZE, 0, torch.device("cpu"), lifetime=3)
    box.send(parcel(1.0, 2, 3))
    box.deliver(3)
    box.open_window(np.array([0]))
    losses = []
    for time, seen in ((3, True), (5, True), (6, False)):
        for messages, mask, age in (
            box.read(time, None, None), box.peek(time, np.array([0])),
        ):  # fmt: skip
            assert bool(mask) == seen
            assert age.item() == seen * (time - 2)
            assert messages.flatten().tolist() == [float(seen)] * SIZE
            losses.append((messages * time).sum())
    torch.stack(losses).sum().backward()
    box.close_window([torch.ones(1, 1)] * 3)
    box.end_episode()
    (settlement,) = [s for s in box.take_settlements() if s.mask.any()]
    assert settlement.gradient[0, 0].tolist() == [8.0, 8.0]
    assert (settlement.reads.item(), settlement.cost.item()) == (2, 2)


def test_who_begins_a_new_life_sees_what_is_sent_from_then_on():
    """Of what was sent before, what lay there and what is still on its way stays unseen."""
    box = mailbox(members=2)
    for slot, (sent_at, arrival) in ((0, (0, 1)), (1, (0, 1)), (0, (3, 6)), (0, (4, 7))):
        box.send(parcel(sent_at + 1, sent_at, arrival, [slot]))
    box.open_window(np.array([0, 1]))
    found = []
    for time in range(1, 8):
        box.deliver(time)
        if time == 4:  # what is sent at that very time is for the new one
            box.begin_again(torch.tensor([[True], [False]]), time)
        messages, mask, _ = box.read(time, None, None)
        found.append((messages[0, 0, 0, 0].item(), bool(mask[0])))
        assert messages[1, 0, 0, 0] == 1  # of the other one
    assert found == [(1.0, True)] * 3 + [(0.0, False)] * 3 + [(5.0, True)]
    box.close_window([torch.zeros(2, 1)] * 7)
    box.end_episode()
    box.send(parcel(1.0, 0, 1, [0]))
    box.deliver(1)  # in the next episode nobody has been born anew
    assert box.peek(1, np.array([0]))[1].item()


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
