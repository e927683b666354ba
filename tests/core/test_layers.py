"""Layers that learn apart: two ends are backpropagation and plain DNI, exactly."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dnicomm.core import (
    SGD,
    Adam,
    CriticUtility,
    DecoupledSequential,
    GradientUtility,
    Interface,
)
from dnicomm.core.layers import group
from dnicomm.core.optimizers import rate

CLASSES = 3


def layers_of(seed=0):
    torch.manual_seed(seed)
    return [
        nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Tanh()),
        nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh()),
        nn.Sequential(nn.Linear(6, 6), nn.Tanh()),
        nn.Linear(6, CLASSES),
    ]


def interfaces_of(kind="gradient", spread=0.3, scale=1.0):
    """Interfaces whose utility models already say something."""
    torch.manual_seed(1)
    found = []
    for _ in range(3):
        if kind == "gradient":
            utility = GradientUtility(6, CLASSES)
        else:
            utility = CriticUtility(6, CLASSES, num_classes=CLASSES, sobolev=0.5)
        for p in utility.parameters():
            nn.init.normal_(p, std=spread)
        found.append(Interface(utility.double(), SGD(0.05), gradient_scale=scale))
    return found


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def net_of(interfaces, **keys):
    return DecoupledSequential([m.double() for m in layers_of()], interfaces, sgd, **keys)


def batches(count=4, size=5):
    torch.manual_seed(2)
    for _ in range(count):
        y = torch.randint(CLASSES, (size,))
        yield torch.randn(size, 8, dtype=torch.double), y


def train(net, count=4, **keys):
    for x, y in batches(count):
        net.update(
            x,
            lambda out, y=y: F.cross_entropy(out, y, reduction="none"),
            F.one_hot(y, CLASSES).double(),
            **keys,
        )
    return net


def values_of(net):
    """Every value that learning changes: layers, running statistics, utility models."""
    return [
        *(v.detach().clone() for v in net.state_dict().values()),
        *(one.utilities.parameters.clone() for one in net.interfaces if one is not None),
    ]


def by_backprop(count=4):
    net = nn.Sequential(*(m.double() for m in layers_of()))
    optimizer = sgd(net.parameters())
    for x, y in batches(count):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    return list(net.state_dict().values())


@pytest.mark.parametrize("kind", ["gradient", "critic"])
def test_bp_of_one_is_backpropagation(kind):
    net = train(net_of(interfaces_of(kind), mixing=1.0))
    for got, true in zip(net.state_dict().values(), by_backprop(), strict=True):
        torch.testing.assert_close(got, true, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["gradient", "critic"])
@pytest.mark.parametrize("keys", [{"mixing": 1e-12}, {"returns": 1e-12}])
def test_shares_of_nothing_are_plain_dni(kind, keys):
    """The carrying pass is another way through the code; without a share it ends the same."""
    plain = values_of(train(net_of(interfaces_of(kind, scale=0.7))))
    carried = values_of(train(net_of(interfaces_of(kind, scale=0.7), **keys)))
    for a, b in zip(plain, carried, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def test_mixed_gradients_are_injected_and_carried_on():
    """One update by hand: g_k = λ (∂h_{k+1}/∂h_k)ᵀ g_{k+1} + (1 - λ) ĝ_k (paper, appendix A)."""
    share = 0.3
    interfaces = interfaces_of()
    x, y = next(batches(1))
    label = F.one_hot(y, CLASSES).double()
    layers = [m.double() for m in layers_of()]
    given, outputs, said = [x], [], []
    for layer, interface in zip(layers[:-1], interfaces, strict=True):
        outputs.append(layer(given[-1]))
        said.append(interface.estimate(outputs[-1].detach()[None], label[None]).gradient[0] / 5)
        given.append(outputs[-1].detach().requires_grad_())
    F.cross_entropy(layers[-1](given[-1]), y).backward()
    targets = [given[-1].grad]
    for output, source, synthetic in zip(outputs[::-1], given[-2::-1], said[::-1], strict=True):
        output.backward(share * targets[-1] + (1 - share) * synthetic)
        targets.append(source.grad)
    want = [p - 0.1 * p.grad for layer in layers for p in layer.parameters()]
    fitted = interfaces_of()
    for one, m, target in zip(fitted, given[1:], targets[-2::-1], strict=True):
        message = one.send(m.detach(), label)
        message.settle(loss=torch.zeros(5), target=target)

    net = train(net_of(interfaces, mixing=share), count=1)
    for got, expected in zip(net.parameters(), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    for got, expected in zip(net.interfaces, fitted, strict=True):
        torch.testing.assert_close(
            got.utilities.parameters, expected.utilities.parameters, rtol=1e-9, atol=1e-12
        )


def test_full_returns_are_true_gradients_for_utility_models_alone():
    """Layers do what plain DNI does in that update; targets are what backpropagation finds."""
    x, y = next(batches(1))
    layers = [m.double() for m in layers_of()]
    h, messages = x, []
    for layer in layers[:-1]:
        h = layer(h)
        messages.append(h)
    losses = F.cross_entropy(layers[-1](h), y, reduction="none")
    truth = torch.autograd.grad(losses.mean(), messages)
    label = F.one_hot(y, CLASSES).double()
    fitted = interfaces_of()
    for one, m, target in zip(fitted, messages, truth, strict=True):
        one.send(m.detach(), label).settle(target=target)

    plain = train(net_of(interfaces_of()), count=1)
    net = train(net_of(interfaces_of(), returns=1.0), count=1)
    for got, expected in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    for got, expected in zip(net.interfaces, fitted, strict=True):
        torch.testing.assert_close(
            got.utilities.parameters, expected.utilities.parameters, rtol=1e-9, atol=1e-12
        )


def test_full_returns_give_critics_the_loss_itself():
    costs = []

    class Recording(CriticUtility):
        def loss(self, estimate, target):
            costs.append(target.cost.clone())
            return super().loss(estimate, target)

    interfaces = [Interface(Recording(6, CLASSES, CLASSES).double()) for _ in range(3)]
    net = net_of(interfaces, returns=1.0)
    x, y = next(batches(1))
    losses = net.update(
        x,
        lambda out: F.cross_entropy(out, y, reduction="none"),
        F.one_hot(y, CLASSES).double(),
    )
    assert len(costs) == 3
    for cost in costs:
        torch.testing.assert_close(cost, losses)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2], [2, 0, 3, 1]])
def test_all_layers_in_any_order_equal_the_plain_update(order):
    """No layer needs another one's backward pass: that is what the update unlock is."""
    plain = values_of(train(net_of(interfaces_of())))
    ordered = values_of(train(net_of(interfaces_of()), order=order))
    for a, b in zip(plain, ordered, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("order", [[], [1], [3], [2, 0]])
def test_layers_that_are_not_due_keep_still(order):
    net = net_of(interfaces_of())
    before = [[p.clone() for p in layer.parameters()] for layer in net.layers]
    fitted = [one.utilities.parameters.clone() for one in net.interfaces]
    train(net, count=1, order=order)
    for number, (layer, old) in enumerate(zip(net.layers, before, strict=True)):
        moved = any(not torch.equal(a, b) for a, b in zip(layer.parameters(), old, strict=True))
        assert moved == (number in order)
    for number, (one, old) in enumerate(zip(net.interfaces, fitted, strict=True)):
        # the message after layer n is settled by layer n + 1, if that one is due
        assert torch.equal(one.utilities.parameters, old) == (number + 1 not in order)


def test_layers_that_are_not_due_have_no_graph_and_ask_nothing():
    calls = []

    class Counting(GradientUtility):
        def forward(self, message, context):
            calls.append(1)
            return super().forward(message, context)

    seen = []

    class Watching(nn.Tanh):
        def forward(self, x):
            seen.append(torch.is_grad_enabled())
            return super().forward(x)

    layers = [nn.Sequential(nn.Linear(8, 6), Watching()) for _ in range(1)]
    layers += [nn.Sequential(nn.Linear(6, 6), Watching()) for _ in range(4)]
    net = DecoupledSequential(layers, [Interface(Counting(6)) for _ in range(4)], sgd)
    net.update(torch.randn(5, 8), lambda out: out.sum(1), order=[1])
    assert seen == [False, True, False, False, False]
    assert len(calls) == 2  # of the message that layer 1 read, and of the one it sent


def test_one_evaluation_of_each_utility_model_an_update():
    calls = []

    class Counting(GradientUtility):
        def forward(self, message, context):
            calls.append(1)
            return super().forward(message, context)

    for keys in ({}, {"mixing": 0.5}, {"returns": 0.5}):
        calls.clear()
        interfaces = [Interface(Counting(6, CLASSES).double()) for _ in range(3)]
        train(net_of(interfaces, **keys), count=2)
        assert len(calls) == 2 * 3


def test_a_missing_interface_is_no_feedback():
    """Layers below keep still, also those below other interfaces' layers; the rest learns."""
    net = net_of([None, None, None])
    before = copy.deepcopy(net)
    train(net)
    for number in range(4):
        pairs = zip(
            net.layers[number].parameters(), before.layers[number].parameters(), strict=True
        )
        assert all(torch.equal(a, b) == (number < 3) for a, b in pairs)


def test_the_first_update_equals_no_feedback():
    """Utility models begin at zero, bias included: layers stand still, the head learns."""
    silent = train(net_of([None, None, None]), count=1)
    for make in (
        lambda: GradientUtility(6, CLASSES),
        lambda: GradientUtility(6, CLASSES, hidden=[7]),
        lambda: CriticUtility(6, CLASSES, num_classes=CLASSES),
    ):
        net = train(net_of([Interface(make().double()) for _ in range(3)]), count=1)
        for a, b in zip(net.parameters(), silent.parameters(), strict=True):
            assert torch.equal(a, b)


def test_grouped_layers_learn_by_backpropagation_within_a_group():
    joined = group([m.double() for m in layers_of()], [])
    net = train(DecoupledSequential(joined, [], sgd))
    for got, true in zip(net.state_dict().values(), by_backprop(), strict=True):
        assert torch.equal(got, true)
    assert [len(g) for g in group(layers_of(), [1, 3])] == [1, 2, 1]
    for wrong in ([0], [4], [2, 1], [1, 1]):
        with pytest.raises(ValueError, match="1 to 3"):
            group(layers_of(), wrong)


def test_utility_models_rates_fall_with_progress():
    interface = Interface(GradientUtility(1), SGD(0.1, decay=(0.5,)))
    for progress in (0.0, 0.5):
        interface.progress = progress
        before = interface.utilities.parameters.clone()
        interface.send(torch.zeros(1, 1)).settle(target=torch.ones(1, 1) + before[0, 1])
        moved = (interface.utilities.parameters - before)[0, 1].item()
        assert moved == pytest.approx(0.2 if progress == 0 else 0.02)


def test_rates_fall_linearly_or_by_tenths():
    assert [rate(1.0, True, p) for p in (0.0, 0.25, 1.0)] == [1.0, 0.75, 0.0]
    assert [rate(1.0, False, p) for p in (0.0, 1.0)] == [1.0, 1.0]
    shares = (0.6, 0.8)
    found = [rate(1.0, shares, p) for p in (0.0, 0.59, 0.6, 0.79, 0.8, 1.0)]
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_single_row_steps_as_torch_does():
    """The step of one row, the step among several, and torch's own are one rule."""
    torch.manual_seed(0)
    start, gradients = torch.randn(1, 40), torch.randn(6, 1, 40)
    own = nn.Parameter(start.clone())
    reference = torch.optim.Adam([own], lr=1e-2)
    optimizer = Adam(1e-2)
    alone, pair = start.clone(), start.repeat(2, 1)
    slots, both = optimizer.init(alone), optimizer.init(pair)
    for g in gradients:
        own.grad = g
        reference.step()
        alone = optimizer.step(alone, g, slots, torch.ones(1, 1))
        pair = optimizer.step(pair, g.repeat(2, 1), both, torch.ones(2, 1))
    torch.testing.assert_close(alone, own.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pair[:1], own.detach(), rtol=1e-5, atol=1e-6)


def test_a_convolutional_critic_knows_where_something_is():
    """Its head is a linear map of all places, averaged to 8×8 where the map is larger."""
    torch.manual_seed(0)
    utility = CriticUtility((2, 16, 16), CLASSES, num_classes=CLASSES)
    head = utility.body.layers[-1]
    assert head.weight.shape == (CLASSES, 2 * 8 * 8)
    nn.init.normal_(head.weight)
    m, label = torch.randn(4, 2, 16, 16, requires_grad=True), torch.tensor([0, 1, 2, 0])
    losses = F.cross_entropy(head(F.avg_pool2d(m, 2).flatten(1)), label, reduction="none")
    losses.sum().backward()
    estimate = utility(m.detach(), F.one_hot(label, CLASSES).float())
    torch.testing.assert_close(estimate.value, losses.detach())
    torch.testing.assert_close(estimate.gradient, m.grad)


@pytest.mark.parametrize("shape", [(6,), (2, 4, 4)])
def test_normalised_messages_are_constants_times_messages(shape):
    """Statistics of the batch are constants: each example's gradient is its own loss's."""
    torch.manual_seed(0)
    utility = CriticUtility(
        shape[0] if len(shape) == 1 else shape, CLASSES, CLASSES, normalise=True
    )
    plain = CriticUtility(shape[0] if len(shape) == 1 else shape, CLASSES, CLASSES)
    nn.init.normal_(utility.body.layers[-1].weight)
    plain.load_state_dict(utility.state_dict())
    m = 5 + 3 * torch.randn(7, *shape)
    label = F.one_hot(torch.randint(CLASSES, (7,)), CLASSES).float()
    over = (0,) if len(shape) == 1 else (0, 2, 3)
    deviation = (m.var(over, correction=0, keepdim=True) + 1e-5).sqrt()
    normal = (m - m.mean(over, keepdim=True)) / deviation
    want, found = plain(normal, label), utility(m, label)
    torch.testing.assert_close(found.value, want.value)
    torch.testing.assert_close(found.gradient, want.gradient / deviation)


def test_rows_of_convolutional_critics_equal_each_alone():
    torch.manual_seed(0)
    models = [
        CriticUtility((2, 9, 9), CLASSES, CLASSES, hidden=[3], normalise=True) for _ in range(2)
    ]
    for model in models:
        nn.init.normal_(model.body.layers[-1].weight)
    m, label = torch.randn(2, 5, 2, 9, 9), torch.eye(CLASSES)[torch.randint(CLASSES, (2, 5))]
    both = Interface(models).estimate(m, label)
    for row, model in enumerate(models):
        alone = model(m[row], label[row])
        torch.testing.assert_close(both.gradient[row], alone.gradient)
        torch.testing.assert_close(both.value[row], alone.value)


def test_what_does_not_fit_is_refused():
    for keys, message in (
        ({"mixing": 1.5}, "0 to 1"),
        ({"returns": -0.1}, "0 to 1"),
        ({"mixing": 0.5, "returns": 0.5}, "choose one"),
    ):
        with pytest.raises(ValueError, match=message):
            net_of(interfaces_of(), **keys)
    with pytest.raises(ValueError, match="no interface may be None"):
        net_of([None, *interfaces_of()[1:]], mixing=0.5)
    for order in ([4], [-1], [1, 1]):
        with pytest.raises(ValueError, match="each of 0 to 3 once"):
            train(net_of(interfaces_of()), order=order)
    with pytest.raises(ValueError, match="cannot learn apart"):
        train(net_of(interfaces_of(), mixing=0.5), order=[1])
