"""Batch statistics over active worlds, with the gradient through them; constants in evaluation."""

import pytest
import torch
import torch.nn.functional as F

from dnicomm.sim.encoding import Occasion
from dnicomm.sim.normalise import EPSILON, MessageNormalizer

N, B, D = 3, 6, 4


@pytest.fixture
def normalizer(double, device) -> MessageNormalizer:
    return MessageNormalizer(N, D, device)


def batch(seed, device, shape=(N, B, D)):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * 3 + 2).to(device).requires_grad_()


def test_it_is_batch_normalisation_of_each_member(normalizer, device):
    """Value and gradient, against torch's own."""
    message, other = batch(0, device), batch(0, device)
    weight = batch(1, device).detach()
    out = normalizer.encode(message, Occasion(True))
    (out * weight).sum().backward()
    want = torch.stack([F.batch_norm(m, None, None, training=True, eps=EPSILON) for m in other])
    (want * weight).sum().backward()
    torch.testing.assert_close(out, want)
    torch.testing.assert_close(message.grad, other.grad)


def test_worlds_that_are_not_active_are_no_part_of_the_batch(normalizer, device):
    message, other = batch(0, device), batch(0, device)
    weight = batch(1, device).detach()
    active = torch.tensor([[1, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 0], [1] * 6], device=device).bool()
    out = normalizer.encode(message, Occasion(True, active=active))
    (torch.where(active[..., None], out, 0.0) * weight).sum().backward()
    for row in range(N):
        there = active[row]
        want = F.batch_norm(other[row, there], None, None, training=True, eps=EPSILON)
        torch.testing.assert_close(out[row, there], want)
        (want * weight[row, there]).sum().backward()
    torch.testing.assert_close(message.grad, other.grad)


@pytest.mark.parametrize("garbage", [1e30, float("inf"), float("nan")])
def test_whatever_an_absent_agent_says(normalizer, device, garbage):
    """What stands where nobody spoke reaches neither the others nor the averages."""
    active = torch.ones(N, B, dtype=torch.bool, device=device)
    active[:, 2] = False
    clean = batch(0, device).detach()
    spoiled = clean.clone()
    spoiled[:, 2] = garbage
    twin = MessageNormalizer(N, D, device)
    for b in (0, 1):
        want, out = (
            twin.encode(clean + b, Occasion(True, active=active)),
            normalizer.encode(spoiled + b, Occasion(True, active=active)),
        )
        assert torch.equal(out[active], want[active])
    for name, value in twin.tensors().items():
        assert torch.equal(normalizer.tensors()[name], value), name


def constants(normalizer, device, worlds=B):
    """Mean and deviation that evaluation takes, read off what it does to 0 and 1."""
    zero = torch.zeros(N, worlds, D, device=device)
    low, high = (normalizer.encode(zero + x, Occasion(False))[:, 0] for x in (0.0, 1.0))
    deviation = 1 / (high - low)
    return -low * deviation, deviation


@pytest.mark.parametrize("present", [0, 1])
def test_without_a_batch_the_averages_stand_in(normalizer, device, present):
    """One world is no batch: constants, as in evaluation, which learn nothing from it."""
    for seed in range(3):
        normalizer.encode(batch(seed, device).detach(), Occasion(True))
    mean, deviation = constants(normalizer, device)
    before = {name: value.clone() for name, value in normalizer.tensors().items()}
    active = torch.zeros(N, B, dtype=torch.bool, device=device)
    active[:, :present] = True
    message = batch(9, device)
    out = normalizer.encode(message, Occasion(True, active=active))
    want = (message - mean[:, None]) / deviation[:, None]
    torch.testing.assert_close(out[active], want[active])
    out[active].sum().backward()
    there = active[..., None].expand_as(message)
    slope = torch.where(there, (1 / deviation)[:, None], 0.0)
    torch.testing.assert_close(message.grad, slope)
    assert all(torch.equal(v, before[n]) for n, v in normalizer.tensors().items())


def test_a_single_world_is_no_batch(device):
    normalizer = MessageNormalizer(N, D, device)
    message = batch(0, device, (N, 1, D)).detach().float()
    out = normalizer.encode(message, Occasion(True))
    torch.testing.assert_close(out, message / (1 + EPSILON) ** 0.5)  # nothing is known yet


def test_nothing_is_known_before_the_first_batch(normalizer, device):
    mean, deviation = constants(normalizer, device)
    torch.testing.assert_close(mean, torch.zeros_like(mean))
    torch.testing.assert_close(deviation, torch.full_like(mean, (1 + EPSILON) ** 0.5))


def test_averages_follow_the_batches(normalizer, device):
    """Unchanging statistics are known from the first batch on: the average has no bias."""
    message = batch(0, device).detach()
    for _ in range(3):
        normalizer.encode(message, Occasion(True))
        mean, deviation = constants(normalizer, device)
        torch.testing.assert_close(mean, message.mean(1))
        torch.testing.assert_close(deviation, (message.var(1, unbiased=False) + EPSILON).sqrt())
    for _ in range(300):
        normalizer.encode(message * 2 + 1, Occasion(True))
    mean, _ = constants(normalizer, device)
    torch.testing.assert_close(mean, message.mean(1) * 2 + 1)


def test_measured_statistics_are_the_mean_over_the_batches(normalizer, device):
    for seed in range(5):  # what learning left behind does not matter
        normalizer.encode(batch(seed, device).detach() * 9, Occasion(True))
    batches = [batch(10 + seed, device).detach() for seed in range(4)]
    for _ in range(2):  # measured anew each time
        with normalizer.measure():
            for message in batches:
                out = normalizer.encode(message, Occasion(False))
                assert out.mean(1).abs().max() < 1e-9  # as in training
        mean, deviation = constants(normalizer, device)
        torch.testing.assert_close(mean, torch.stack([m.mean(1) for m in batches]).mean(0))
        variance = torch.stack([m.var(1, unbiased=False) for m in batches]).mean(0)
        torch.testing.assert_close(deviation, (variance + EPSILON).sqrt())


def test_worlds_do_not_see_each_other_in_evaluation(normalizer, device):
    normalizer.encode(batch(0, device).detach(), Occasion(True))
    before = {name: value.clone() for name, value in normalizer.tensors().items()}
    message = batch(1, device).detach()
    out = normalizer.encode(message, Occasion(False))
    one = normalizer.encode(message[:, 2:3], Occasion(False))
    assert torch.equal(out[:, 2:3], one)
    assert all(torch.equal(v, before[n]) for n, v in normalizer.tensors().items())


def test_members_keep_their_own(normalizer, device):
    """Those who do not speak learn nothing; the order in which others do is theirs."""
    members = torch.tensor([2, 0], device=device)
    message = batch(0, device, (2, B, D)).detach()
    normalizer.encode(message, Occasion(True, members))
    mean, _ = constants(normalizer, device)
    torch.testing.assert_close(mean[2], message[0].mean(0))
    torch.testing.assert_close(mean[0], message[1].mean(0))
    assert not mean[1].any()
    out = normalizer.encode(message, Occasion(False, members))
    torch.testing.assert_close(
        out[0], (message[0] - mean[2]) / (message[0].var(0, unbiased=False) + EPSILON).sqrt()
    )


def test_a_message_that_is_not_finite_leaves_the_averages_as_they_were(normalizer, device):
    normalizer.encode(batch(0, device).detach(), Occasion(True))
    before = constants(normalizer, device)
    spoiled = batch(1, device).detach()
    spoiled[1, 3, 0] = float("nan")
    normalizer.encode(spoiled, Occasion(True))
    after = constants(normalizer, device)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a[1], b[1])
        assert not torch.equal(a[0], b[0])
        assert torch.isfinite(b).all()
