"""Channels' and agents' figures: closed forms, and nothing where there is nothing to say."""

import math

import numpy as np
import pytest
import torch

from dnicomm.sim.metrics import AgentMeter, ChannelMeter
from dnicomm.sim.parcel import Settlement

CPU = torch.device("cpu")


def settlement(gradient, reads, mask):
    """Of one slot; ``gradient`` [B, D]."""
    gradient = torch.tensor(gradient, dtype=torch.float32)[None]
    reads = torch.tensor([reads], dtype=torch.float32)
    zero = torch.zeros_like(gradient)
    mask = torch.tensor([mask])
    none = torch.zeros_like(reads)
    return Settlement(np.array([0]), zero, zero[..., :0], gradient, none, reads, mask, none.long())


def settle(meter, row, *args, synthetic=None):
    said = None if synthetic is None else torch.tensor(synthetic, dtype=torch.float32)[None]
    meter.settle(torch.tensor([row]), settlement(*args), said)


def test_before_anything_there_is_nothing_to_say():
    summary = ChannelMeter(2, CPU).summary(1)
    assert summary.pop("settled") == 0
    assert all(value is None for value in summary.values())


def test_how_well_a_gradient_was_foreseen():
    meter = ChannelMeter(3, CPU)
    true = [[3.0, 4.0], [0.0, 2.0], [1.0, 0.0], [5.0, 5.0]]
    said = [[6.0, 8.0], [2.0, 0.0], [-1.0, 0.0], [9.0, 9.0]]
    settle(meter, 1, true, [1, 2, 1, 1], [True, True, True, False], synthetic=said)
    summary = meter.summary(1)
    assert summary["cosine"] == pytest.approx((1 + 0 - 1) / 3)
    assert summary["target_norm"] == pytest.approx((5 + 2 + 1) / 3)
    assert summary["synthetic_norm"] == pytest.approx((10 + 2 + 1) / 3)
    assert summary["relative_error"] == pytest.approx((5 + math.sqrt(8) + 2) / (5 + 2 + 1))
    assert summary["settled"] == 3
    assert summary["share_read"] == 1
    assert meter.summary(0)["cosine"] is None
    assert meter.summary(2)["settled"] == 0


def test_a_perfect_utility_model():
    meter = ChannelMeter(1, CPU)
    true = [[0.1, -0.7], [3.0, 2.0]]
    settle(meter, 0, true, [1, 1], [True, True], synthetic=true)
    assert meter.summary(0)["cosine"] == pytest.approx(1)
    assert meter.summary(0)["relative_error"] == pytest.approx(0)


def test_where_there_is_nothing_to_compare():
    """Never read, no gradient, nothing foreseen, or not a number: settled, and not compared."""
    meter = ChannelMeter(1, CPU)
    true = [[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [float("nan"), 0.0], [1.0, 0.0], [1.0, 0.0]]
    said = [[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [float("nan"), 0.0], [math.inf, 0.0]]
    settle(meter, 0, true, [0, 1, 1, 1, 1, 1], [True] * 6, synthetic=said)
    summary = meter.summary(0)
    assert summary["settled"] == 6
    assert summary["share_read"] == pytest.approx(5 / 6)
    assert summary["cosine"] is None
    assert summary["relative_error"] is None
    settle(meter, 0, [[1.0, 0.0]], [1], [True])  # no utility model at all
    assert meter.summary(0)["settled"] == 7


def test_a_target_of_rounding_errors_does_not_drown_the_others():
    meter = ChannelMeter(1, CPU)
    true = [[1.0, 0.0], [1e-20, 0.0]]
    settle(meter, 0, true, [1, 1], [True, True], synthetic=[[0.5, 0.0], [0.5, 0.0]])
    assert meter.summary(0)["relative_error"] == pytest.approx(1.0)


def test_ages_and_resets():
    meter = ChannelMeter(2, CPU)
    meter.add("reads", torch.tensor([0, 0, 1]), torch.tensor([1, 2, 4]))
    meter.add("age", torch.tensor([0, 0, 1]), torch.tensor([3.0, 3.0, 2.0]))
    assert meter.summary(0)["age"] == 2
    assert meter.summary(1)["age"] == 0.5
    meter.reset()
    assert meter.summary(0)["age"] is None


def test_agents():
    meter = AgentMeter(2, CPU)
    assert meter.summary(0) == {"loss": None, "reward": None, "bad_messages": 0}
    meter.add("loss", torch.tensor([1]), torch.tensor([6.0]))
    meter.add("losses", torch.tensor([1]), torch.tensor([4]))
    meter.add("reward", None, torch.tensor([1.0, -3.0]))
    meter.add("rewards", None, torch.tensor([2.0, 2.0]))
    meter.add("bad_messages", torch.tensor([0]), torch.tensor([3]))
    assert meter.summary(0) == {"loss": None, "reward": 0.5, "bad_messages": 3}
    assert meter.summary(1) == {"loss": 1.5, "reward": -1.5, "bad_messages": 0}


def test_settlements_of_many_slots_come_to_their_rows():
    meter = ChannelMeter(4, CPU)
    rows = torch.tensor([3, 1])
    gradient = torch.tensor([[[2.0]], [[4.0]]])
    ones = torch.ones(2, 1)
    parts = gradient, gradient[..., :0], gradient, ones, ones, ones > 0, ones.long()
    s = Settlement(np.array([3, 1]), *parts)
    meter.settle(rows, s, gradient * 2)
    assert meter.summary(3)["target_norm"] == 2
    assert meter.summary(1)["target_norm"] == 4
    assert meter.summary(1)["synthetic_norm"] == 8
    assert meter.summary(0)["settled"] == 0
