"""Constants on the way out, in training as in a test; gradients as of batch normalisation."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from dnicomm.sim.encoding import Occasion
from dnicomm.sim.normalise import EPSILON, MOMENTUM, MessageNormalizer

N, B, D = 3, 6, 4


@pytest.fixture
def normalizer(double, device) -> MessageNormalizer:
    return MessageNormalizer(N, D, device)


def batch(seed, device, shape=(N, B, D)):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * 3 + 2).to(device).requires_grad_()


def test_its_first_batch_is_batch_normalised(normalizer, device):
    """Value and gradient, against torch's own."""
    message, other = batch(0, device), batch(0, device)
    weight = batch(1, device).detach()
    out = normalizer.encode(message, Occasion(True))
    (out * weight).sum().backward()
    want = torch.stack([F.batch_norm(m, None, None, training=True, eps=EPSILON) for m in other])
    (want * weight).sum().backward()
    torch.testing.assert_close(out, want)
    torch.testing.assert_close(message.grad, other.grad)


def test_a_message_is_the_same_in_training_and_in_a_test(normalizer, device):
    """Whatever the batch: its mean and deviation are no part of what goes out."""
    for seed in range(4):
        message = batch(seed, device).detach() * (seed + 1) - 5 * seed
        out = normalizer.encode(message, Occasion(True))
        torch.testing.assert_close(out, normalizer.encode(message, Occasion(False)))
    assert out.mean(1).abs().max() > 0.5


def test_its_gradient_is_that_of_the_batch(normalizer, device):
    """That of batch normalisation, in units of the running deviation (Ioffe, 2017)."""
    normalizer.encode(batch(5, device).detach() * 3 + 1, Occasion(True))
    message, other = batch(0, device), batch(0, device)
    weight = batch(1, device).detach()
    out = normalizer.encode(message, Occasion(True))
    (out * weight).sum().backward()
    _, deviation = constants(normalizer, device)
    want = torch.stack([F.batch_norm(m, None, None, training=True, eps=EPSILON) for m in other])
    own = (other.var(1, unbiased=False) + EPSILON).sqrt()
    (want * weight * (own / deviation).detach()[:, None]).sum().backward()
    torch.testing.assert_close(message.grad, other.grad)
    assert message.grad.sum(1).abs().max() < 1e-9  # a common part is told nothing


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


def test_statistics_are_those_of_all_messages_so_far(normalizer, device):
    """The first batches count alike: what differs within them and what differs between them."""
    batches = [batch(seed, device).detach() + 4 * seed for seed in range(6)]
    for n, message in enumerate(batches):
        normalizer.encode(message, Occasion(True))
        mean, deviation = constants(normalizer, device)
        so_far = torch.cat(batches[: n + 1], 1)
        torch.testing.assert_close(mean, so_far.mean(1))
        torch.testing.assert_close(deviation, (so_far.var(1, unbiased=False) + EPSILON).sqrt())


def test_statistics_follow_what_changes(normalizer, device):
    """In the end the last 1 / MOMENTUM batches or so are what counts."""
    message = batch(0, device).detach()
    for _ in range(30):
        normalizer.encode(message * 5 - 20, Occasion(True))
    for _ in range(int(15 / MOMENTUM)):
        normalizer.encode(message, Occasion(True))
    mean, deviation = constants(normalizer, device)
    torch.testing.assert_close(mean, message.mean(1), atol=1e-4, rtol=1e-4)
    own = (message.var(1, unbiased=False) + EPSILON).sqrt()
    torch.testing.assert_close(deviation, own, atol=1e-3, rtol=1e-3)


def test_a_large_common_part_costs_no_precision(device):
    """In float32, where the mean is a hundred thousand deviations away from zero."""
    normalizer = MessageNormalizer(N, D, device)
    message = batch(0, device).detach().float() * 0.1 + 1e4
    for _ in range(50):
        normalizer.encode(message, Occasion(True))
    out = normalizer.encode(message, Occasion(False))
    torch.testing.assert_close(out.mean(1), torch.zeros(N, D, device=device), atol=0.05, rtol=0)
    torch.testing.assert_close(out.var(1), torch.full_like(out[:, 0], 1.2), atol=0.1, rtol=0)


def test_computed_once_more_a_message_has_the_constants_of_its_tick(normalizer, device):
    normalizer.encode(batch(3, device).detach(), Occasion(True))
    first, message = Occasion(True), batch(0, device).detach()
    out = normalizer.encode(message, first)
    normalizer.encode(batch(1, device).detach() + 9, Occasion(True))
    before = {name: value.clone() for name, value in normalizer.tensors().items()}
    again = normalizer.encode(message, replace(first, again=True))
    torch.testing.assert_close(again, out)
    some = normalizer.encode(message[:, :3], replace(first, again=True))
    torch.testing.assert_close(some, out[:, :3])
    assert all(torch.equal(v, before[n]) for n, v in normalizer.tensors().items())


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
