import pytest
import torch

from dnicomm.core import GradientUtility, Interface, Target
from dnicomm.core.least_squares import LeastSquares, LeastSquaresUtility

D, C, B = 4, 3, 60


def utility(**options):
    return LeastSquaresUtility(D, C, **{"ridge": 1e-7} | options).double()


def interface(rows=1, **options):
    return LeastSquares([utility(**options) for _ in range(rows)])


def data(seed, rows=1):
    rng = torch.Generator().manual_seed(seed)
    message = torch.randn(rows, B, D, generator=rng, dtype=torch.float64)
    context = torch.randn(rows, B, C, generator=rng, dtype=torch.float64)
    weights = torch.randn(rows, D + C + 1, D, generator=rng, dtype=torch.float64)
    return message, context, weights


def seen(message, context):
    return torch.cat([message, context, torch.ones_like(message[..., :1])], -1)


def target(gradient):
    return Target(gradient, gradient.new_zeros(gradient.shape[:2]))


def said(of, message, context, rows=None):
    return of.estimate(message, context, rows).gradient


def test_it_says_nothing_before_the_first_fit():
    message, context, _ = data(0)
    assert said(interface(), message, context).abs().max() == 0


def test_one_fit_finds_a_linear_gradient_exactly():
    of, (message, context, weights) = interface(), data(0)
    before = of.fit(message, context, target(seen(message, context) @ weights))
    assert before.gradient.abs().max() == 0
    other, facts, _ = data(1)
    torch.testing.assert_close(
        said(of, other, facts), seen(other, facts) @ weights, rtol=1e-4, atol=1e-4
    )
    assert of.utilities.updates.tolist() == [1]


def test_with_noise_it_is_the_least_squares_solution():
    of, (message, context, _) = interface(), data(0)
    noise = torch.randn(1, B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    of.fit(message, context, target(noise))
    best = torch.linalg.lstsq(seen(message, context)[0], noise[0]).solution
    torch.testing.assert_close(
        said(of, message, context)[0], seen(message, context)[0] @ best, rtol=1e-4, atol=1e-5
    )


def test_two_fits_weigh_the_older_one_by_what_is_kept():
    memory = 4.0
    of, (message, context, _), (message2, context2, _) = interface(memory=memory), data(0), data(1)
    rng = torch.Generator().manual_seed(3)
    one, two = (torch.randn(1, B, D, generator=rng, dtype=torch.float64) for _ in range(2))
    of.fit(message, context, target(one))
    of.fit(message2, context2, target(two))
    root = (1 - 1 / memory) ** 0.5
    x = torch.cat([root * seen(message, context)[0], seen(message2, context2)[0]])
    best = torch.linalg.lstsq(x, torch.cat([root * one[0], two[0]])).solution
    torch.testing.assert_close(
        said(of, message, context)[0], seen(message, context)[0] @ best, rtol=1e-4, atol=1e-5
    )


def test_a_memory_of_one_knows_the_last_fit_only():
    of, alone = interface(memory=1.0), interface(memory=1.0)
    for seed in (0, 1):
        message, context, weights = data(seed)
        of.fit(message, context, target(seen(message, context) @ weights))
    alone.fit(message, context, target(seen(message, context) @ weights))
    assert torch.equal(of.utilities.parameters, alone.utilities.parameters)


def test_the_ridge_shrinks_what_is_said():
    free, bound = interface(), interface(ridge=10.0)
    message, context, weights = data(0)
    for of in (free, bound):
        of.fit(message, context, target(seen(message, context) @ weights))
    assert said(bound, message, context).norm() < 0.5 * said(free, message, context).norm()


def test_masked_and_not_finite_targets_are_left_out():
    of, only = interface(), interface()
    message, context, weights = data(0)
    gradient = seen(message, context) @ weights + torch.randn(1, B, D).double()
    only.fit(message[:, :20], context[:, :20], target(gradient[:, :20]))
    spoilt = gradient.clone()
    spoilt[0, 30] = float("nan")
    mask = torch.zeros(1, B, dtype=torch.bool)
    mask[0, :20] = mask[0, 30] = True
    of.fit(message, context, target(spoilt), mask=mask)
    torch.testing.assert_close(of.utilities.parameters, only.utilities.parameters)


def test_a_fit_of_nothing_changes_nothing():
    of, (message, context, weights) = interface(), data(0)
    of.fit(message, context, target(seen(message, context) @ weights))
    before = {name: value.clone() for name, value in of.utilities.tensors().items()}
    nobody = torch.zeros(1, B, dtype=torch.bool)
    of.fit(message, context, target(torch.ones(1, B, D).double()), mask=nobody)
    for name, value in of.utilities.tensors().items():
        assert torch.equal(before[name], value), name


def test_rows_are_fitted_as_if_alone():
    both, (message, context, weights) = interface(2), data(0, rows=2)
    gradient = seen(message, context) @ weights
    both.fit(message, context, target(gradient))
    both.fit(message[:1], context[:1], target(2 * gradient[:1]), rows=torch.tensor([1]))
    first, second = interface(), interface()
    first.fit(message[:1], context[:1], target(gradient[:1]))
    second.fit(message[1:], context[1:], target(gradient[1:]))
    second.fit(message[:1], context[:1], target(2 * gradient[:1]))
    torch.testing.assert_close(both.utilities.parameters[0], first.utilities.parameters[0])
    torch.testing.assert_close(both.utilities.parameters[1], second.utilities.parameters[0])
    assert both.utilities.updates.tolist() == [1, 2]


def test_what_it_knows_is_kept_in_a_checkpoint():
    of, again = interface(), interface()
    message, context, weights = data(0)
    of.fit(message, context, target(seen(message, context) @ weights))
    again.utilities.load(of.utilities.tensors())
    later, facts, other = data(1)
    for one in (of, again):
        one.fit(later, facts, target(seen(later, facts) @ other))
    assert torch.equal(of.utilities.parameters, again.utilities.parameters)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_between_layers_it_is_used_like_any_interface(reduction):
    """What it says after a settled message is what its own fit of the true gradients says."""
    of = LeastSquares(utility(), reduction=reduction)
    message, context, _ = data(0)
    h = message[0].clone().requires_grad_()
    sent = of.send(h, context[0])
    assert h.grad.abs().max() == 0
    cost = (sent.tensor * (sent.tensor * 0.5 + 1)).sum(1)  # gradient: message + 1
    (cost.mean() if reduction == "mean" else cost.sum()).backward()
    error = sent.settle()
    torch.testing.assert_close(error, (message[0] + 1).square().sum(1))
    again = message[0].clone().requires_grad_()
    of.send(again, context[0])
    examples = B if reduction == "mean" else 1
    torch.testing.assert_close(again.grad, (message[0] + 1) / examples, rtol=1e-4, atol=1e-5)


def test_it_beats_many_small_steps_on_what_it_has_seen():
    solved = LeastSquares(LeastSquaresUtility(D, C))
    stepped = Interface(GradientUtility(D, C))
    message, context, weights = (x.float() for x in data(0))
    truth = seen(message, context) @ weights
    for of in (solved, stepped):
        for _ in range(10):
            of.fit(message, context, target(truth))
    errors = [(said(of, message, context) - truth).norm() for of in (solved, stepped)]
    assert errors[0] < 0.1 * errors[1]


@pytest.mark.parametrize("options", [{"memory": 0.5}, {"ridge": 0.0}, {"memory": float("nan")}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        utility(**options)
