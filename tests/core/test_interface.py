"""Oracle = backprop, zero = no feedback, no leak, per-example targets, one evaluation."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dnicomm.core import (
    SGD,
    Adam,
    CriticUtility,
    DecoupledSequential,
    Estimate,
    GradientUtility,
    Interface,
    LocalUtility,
    Target,
    UtilityModel,
    Window,
)


class Oracle(UtilityModel):
    """Answers with recorded gradients, one after another."""

    def __init__(self, message_size, gradients):
        super().__init__(message_size)
        self.unused = nn.Parameter(torch.zeros(1))
        self.gradients = list(gradients)

    def forward(self, message, context):
        answer = self.gradients[0]
        if len(self.gradients) > 1:
            self.gradients.pop(0)
        return Estimate(answer, message.new_zeros(len(message)))

    def loss(self, estimate, target):
        return (estimate.gradient - target.gradient).square().sum(1) + 0 * self.unused.sum()


def gradients_of(module):
    return [p.grad.clone() for p in module.parameters()]


def deep_net(device):
    torch.manual_seed(0)
    return [
        nn.Sequential(nn.Linear(8, 6), nn.Tanh()),
        nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh()),
        nn.Linear(6, 3),
    ]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_layers_with_an_oracle_equal_backprop(device, reduction):
    layers = [layer.double().to(device) for layer in deep_net(device)]
    x = torch.randn(5, 8, dtype=torch.double, device=device)
    y = torch.randint(3, (5,), device=device)
    h, hidden = x, []
    for layer in layers[:-1]:
        h = layer(h)
        h.retain_grad()
        hidden.append(h)
    F.cross_entropy(layers[-1](h), y, reduction=reduction).backward()
    want = [gradients_of(layer) for layer in layers]
    per_example = 5 if reduction == "mean" else 1
    truth = [h.grad * per_example for h in hidden]

    for layer in layers:
        layer.zero_grad()
    interfaces = [Interface(Oracle(6, [g]), reduction=reduction).to(device) for g in truth]
    received, h = None, x
    for layer, interface in zip(layers[:-1], interfaces, strict=True):
        sent = interface.send(layer(h))
        if received is not None:
            # the oracle's own error: what came out equals what it said
            assert received.settle().abs().max() < 1e-20
        h, received = sent.tensor, sent
    F.cross_entropy(layers[-1](h), y, reduction=reduction).backward()
    assert received is not None
    assert received.settle().abs().max() < 1e-20
    for layer, expected in zip(layers, want, strict=True):
        for got, true in zip(gradients_of(layer), expected, strict=True):
            torch.testing.assert_close(got, true, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch", [4, 64])
def test_targets_are_per_example(batch):
    """What is learnt does not shrink with the batch; what is injected does, as the loss does."""
    torch.manual_seed(0)
    interface = Interface(GradientUtility(3), SGD(1.0), gradient_scale=2.0)
    h = torch.randn(batch, 3, requires_grad=True)
    message = interface.send(h)
    (message.tensor.sum(1)).mean().backward()  # each example's own gradient is one
    message.settle()
    bias = interface.utilities.module(0).body.layers[0].bias.detach()
    torch.testing.assert_close(bias, torch.full((3,), 2.0))  # one step on (0 - 1)²
    again = torch.zeros(batch, 3, requires_grad=True)
    sent = interface.send(again)
    torch.testing.assert_close(sent.synthetic, torch.full((batch, 3), 2.0))
    torch.testing.assert_close(again.grad, torch.full((batch, 3), 2.0 * 2.0 / batch))


def test_the_first_step_is_no_feedback_at_all():
    for utility in (
        GradientUtility(4, 2),
        GradientUtility(4, 2, hidden=[5]),
        CriticUtility(4, 2, num_classes=2),
        CriticUtility(4, 2, hidden=[5]),
        LocalUtility(4, 2, num_classes=2),
        GradientUtility((4, 5, 5), 2, hidden=[3]),
    ):
        shape = (3, *utility.message_shape)
        h = torch.randn(shape, requires_grad=True)
        message = Interface(utility).send(h, context=torch.eye(2)[[0, 1, 0]])
        assert torch.equal(message.synthetic, torch.zeros(shape))
        assert h.grad is not None
        assert not h.grad.any()


@pytest.mark.parametrize("kind", ["gradient", "critic", "sobolev", "local"])
def test_the_utility_loss_leaks_nowhere(kind):
    """Fitting reaches neither the sender's parameters nor the receiver's."""
    torch.manual_seed(0)
    sender, receiver = nn.Linear(3, 4), nn.Linear(4, 2)
    utility = {
        "gradient": GradientUtility(4, 2, hidden=[5]),
        "critic": CriticUtility(4, 2, num_classes=2),
        "sobolev": CriticUtility(4, 2, num_classes=2, sobolev=1.0),
        "local": LocalUtility(4, 2, num_classes=2),
    }[kind]
    for p in utility.parameters():
        nn.init.normal_(p)  # a large wrong model, so that a leak would show
    interface = Interface(utility)
    label = torch.tensor([0, 1, 1])
    message = interface.send(sender(torch.randn(3, 3)), context=torch.eye(2)[label])
    losses = F.cross_entropy(receiver(message.tensor), label, reduction="none")
    losses.mean().backward()
    before = [g.clone() for g in gradients_of(sender) + gradients_of(receiver)]
    target = message.tensor.grad.clone()
    fitted = interface.utilities.parameters.clone()
    message.settle(losses)
    assert not torch.equal(interface.utilities.parameters, fitted)
    assert torch.equal(message.tensor.grad, target)
    for a, b in zip(before, gradients_of(sender) + gradients_of(receiver), strict=True):
        assert torch.equal(a, b)


def test_feedback_and_fitting_share_one_evaluation():
    calls = []

    class Counting(GradientUtility):
        def forward(self, message, context):
            calls.append(1)
            return super().forward(message, context)

    interface = Interface(Counting(3))
    h = torch.randn(2, 3, requires_grad=True)
    first, second = interface.send(h), interface.send(h)
    assert len(calls) == 2
    first.settle(target=torch.ones(2, 3))
    assert len(calls) == 2  # unchanged since: reused
    second.settle(target=torch.ones(2, 3))
    assert len(calls) == 3  # fitted since: evaluated again


def test_critic_learns_the_loss_and_its_gradient():
    """On a quadratic receiver an MLP critic's derivative approaches the true gradient."""
    torch.manual_seed(0)
    utility = CriticUtility(2, hidden=[64], sobolev=1.0)
    interface = Interface(utility, Adam(1e-2))
    for _ in range(400):
        m = torch.randn(1, 128, 2)
        target = Target(gradient=2 * m, cost=m.square().sum(-1))
        interface.fit(m, torch.zeros(1, 128, 0), target)
    m = torch.randn(1, 256, 2)
    g = interface.estimate(m, torch.zeros(1, 256, 0)).gradient
    assert F.cosine_similarity(g[0], 2 * m[0]).mean() > 0.97


def test_labelled_critic_is_the_derivative_of_cross_entropy():
    utility = CriticUtility(4, 5, num_classes=3)
    nn.init.normal_(utility.body.layers[0].weight)
    m, label, rest = torch.randn(6, 4), torch.randint(3, (6,)), torch.randn(6, 2)
    estimate = utility(m, torch.cat([F.one_hot(label, 3).float(), rest], 1))
    m.requires_grad_()
    logits = utility.body.layers(torch.cat([m, rest], 1))
    losses = F.cross_entropy(logits, label, reduction="none")
    losses.sum().backward()
    torch.testing.assert_close(estimate.value, losses)
    torch.testing.assert_close(estimate.gradient, m.grad)


def test_convolutional_label_planes():
    """cDNI of a convolutional layer: each number of the context is a constant plane."""
    utility = GradientUtility((3, 6, 6), context_size=2)
    conv = utility.body.layers[0]
    nn.init.normal_(conv.weight)
    m, context = torch.randn(2, 3, 6, 6), torch.eye(2)
    planes = context[:, :, None, None].expand(2, 2, 6, 6)
    torch.testing.assert_close(utility(m, context).gradient, conv(torch.cat([m, planes], 1)))


def test_many_channels_equal_each_alone(device):
    """Row e of a stacked interface is the interface of channel e, fitted by itself."""
    torch.manual_seed(0)
    data = torch.randn(30, 3, 7, 4, device=device)
    stacked = Interface([GradientUtility(4, 1) for _ in range(3)], Adam(1e-2)).to(device)
    alone = [Interface(GradientUtility(4, 1), Adam(1e-2)).to(device) for _ in range(3)]
    context = torch.ones(3, 7, 1, device=device)
    cost = torch.zeros(3, 7, device=device)
    for i, m in enumerate(data):
        due = [e for e in range(3) if (i + e) % (e + 1) == 0]
        rows = torch.tensor(due, device=device)
        stacked.fit(m[rows], context[rows], Target(m[rows].sin(), cost[rows]), rows)
        for e in due:
            target = Target(m[e : e + 1].sin(), cost[:1])
            alone[e].fit(m[e : e + 1], context[:1], target)
    for e in range(3):
        torch.testing.assert_close(
            stacked.utilities.parameters[e], alone[e].utilities.parameters[0], rtol=1e-4, atol=1e-6
        )


def test_a_mask_leaves_entries_out():
    torch.manual_seed(0)
    m, context, cost = torch.randn(2, 6, 3), torch.zeros(2, 6, 0), torch.zeros(2, 6)
    mask = torch.rand(2, 6) < 0.5
    target = torch.randn(2, 6, 3)
    spoiled = torch.where(mask[..., None], target, torch.full_like(target, float("nan")))
    found = []
    for t in (target, spoiled):
        torch.manual_seed(1)
        interface = Interface([GradientUtility(3), GradientUtility(3)])
        interface.fit(m, context, Target(t, cost), mask=mask if t is target else None)
        found.append(interface.utilities.parameters.clone())
    assert torch.equal(*found)


def test_a_window_is_one_backward():
    x = torch.randn(3, requires_grad=True)
    window = Window()
    window.add_loss(x.square())
    window.add_output(2 * x, torch.ones(3))
    window.add_output(torch.zeros(3), torch.ones(3))  # no graph: nothing to do
    assert len(window) == 2
    window.backward()
    torch.testing.assert_close(x.grad, 2 * x.detach() + 2)
    assert len(window) == 0
    with pytest.raises(ValueError, match="one shape"):
        window.add_output(x * 1, torch.ones(2))


def test_decoupled_layers_learn():
    """Two moons of a kind: every layer moves, the loss falls."""
    torch.manual_seed(0)
    x = torch.randn(256, 2)
    y = (x[:, 0] * x[:, 1] > 0).long()
    layers = [
        nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU()),
        nn.Sequential(nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU()),
        nn.Linear(32, 2),
    ]
    interfaces = [Interface(GradientUtility(32, 2)) for _ in range(2)]
    net = DecoupledSequential(
        layers, interfaces, lambda parameters: torch.optim.Adam(parameters, lr=1e-2)
    )
    before = [p.clone() for p in net.parameters()]
    context = F.one_hot(y, 2).float()
    for _ in range(400):
        losses = net.update(x, lambda out: F.cross_entropy(out, y, reduction="none"), context)
    assert losses.mean() < 0.2
    assert all(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_what_does_not_fit_is_refused():
    interface = Interface(GradientUtility(4, 2))
    h = torch.randn(3, 4, requires_grad=True)
    with pytest.raises(ValueError, match=r"\[B, 4\]"):
        interface.send(torch.randn(3, 5, requires_grad=True), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"expected \[3, 2\]"):
        interface.send(h)
    with pytest.raises(ValueError, match="num_classes"):
        CriticUtility(4, 2, num_classes=3)
    with pytest.raises(ValueError, match="at least 1"):
        LocalUtility(4, 2, num_classes=0)
    with pytest.raises(ValueError, match="message_size"):
        GradientUtility(0)
    with pytest.raises(ValueError, match="reduction"):
        Interface(GradientUtility(4), reduction="median")
    critic = Interface(CriticUtility(4, 2, num_classes=2)).send(h, torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"loss \[3\]"):
        critic.settle()
    with pytest.raises(ValueError, match="2 interfaces"):
        DecoupledSequential([nn.Linear(2, 2)] * 3, [])
