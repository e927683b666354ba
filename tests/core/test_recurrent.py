"""Windows of a recurrent net: oracle = full BPTT, zero = truncation, λ-returns, outcomes, aux."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dnicomm.core import (
    SGD,
    Adam,
    CriticUtility,
    DecoupledRNN,
    Estimate,
    FutureGradients,
    GradientUtility,
    Interface,
    LambdaReturns,
    LocalOutcomeUtility,
    LSTMCore,
    OutcomeUtility,
    UtilityModel,
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


def test_rnn_with_an_oracle_equals_full_backpropagation_through_time(device):
    torch.manual_seed(0)
    core = LSTMCore(3, 4).double().to(device)
    xs = torch.randn(9, 2, 3, dtype=torch.double, device=device)
    start = torch.zeros(2, core.state_size, dtype=torch.double, device=device)

    state, states, outputs = start, [], []
    for x in xs:
        output, state = core(x[None], state)
        state.retain_grad()
        states.append(state)
        outputs.append(output)
    torch.cat(outputs).square().sum((0, 2)).mean().backward()
    want = gradients_of(core)
    truth = [states[2].grad * 2, states[5].grad * 2]  # boundaries of windows of 3

    core.zero_grad()
    rnn = DecoupledRNN(core, Interface(Oracle(core.state_size, truth)).to(device))
    rnn.start(start)
    for k in range(3):
        out, window = rnn.window(xs[3 * k : 3 * k + 3], last=k == 2)
        window.backward(out.square().sum(2))
    for got, true in zip(gradients_of(core), want, strict=True):
        torch.testing.assert_close(got, true, rtol=1e-9, atol=1e-12)


def test_rnn_with_a_zero_utility_equals_truncation():
    torch.manual_seed(0)
    core = LSTMCore(3, 4)
    xs = torch.randn(8, 2, 3)
    found = []
    for interface in (None, Interface(GradientUtility(core.state_size))):
        core.zero_grad()
        rnn = DecoupledRNN(core, interface)
        rnn.start(torch.zeros(2, core.state_size))
        out, first = rnn.window(xs[:4])
        first.backward(out.square().sum(2))
        out, second = rnn.window(xs[4:])
        second.backward(out.square().sum(2))
        found.append(gradients_of(core))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    # and then it has learnt from the second window, towards the target found there
    assert interface is not None
    assert interface.utilities.updates.item() == 1


def test_rnn_settles_a_true_end_with_zero():
    core = LSTMCore(2, 3)
    utility = GradientUtility(core.state_size)
    with torch.no_grad():
        utility.body.layers[0].bias.fill_(1.0)  # expects a gradient of one
    rnn = DecoupledRNN(core, Interface(utility, SGD(0.1)))
    rnn.start(torch.zeros(1, core.state_size))
    out, window = rnn.window(torch.randn(2, 1, 2))
    window.backward(out.square().sum(2))
    rnn.start(torch.zeros(1, core.state_size))  # nothing followed: the target is zero
    bias = rnn.interface.utilities.module(0).body.layers[0].bias
    torch.testing.assert_close(bias, torch.full_like(bias, 1 - 0.1 * 2 * 1))


def test_the_lstm_computes_what_an_lstm_computes():
    """Output and cell side by side in the state, and a window at once = step by step."""
    torch.manual_seed(0)
    core = LSTMCore(3, 4)
    cell = nn.LSTMCell(3, 4)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    with torch.no_grad():
        for name in names:
            getattr(cell, name).copy_(getattr(core.lstm, f"{name}_l0"))
    xs, state = torch.randn(5, 2, 3), torch.randn(2, 8)
    outputs, after = core(xs, state)
    h, c = state.chunk(2, -1)
    for x, output in zip(xs, outputs, strict=True):
        h, c = cell(x, (h, c))
        torch.testing.assert_close(output, h)
    torch.testing.assert_close(after, torch.cat([h, c], -1))


# -- the auxiliary task ----------------------------------------------------------------


def test_the_auxiliary_task_trains():
    """Its parameters move, its error falls, and the core feels it."""
    torch.manual_seed(0)
    core = LSTMCore(2, 4)
    auxiliary = FutureGradients(4, core.state_size)
    interface = Interface(Oracle(core.state_size, [torch.full((6, core.state_size), 0.5)]))
    optimizer = torch.optim.Adam(auxiliary.parameters(), lr=0.05)
    rnn = DecoupledRNN(core, interface, auxiliary)
    before, errors = [p.clone() for p in auxiliary.parameters()], []
    xs = torch.randn(3, 6, 2)
    for _ in range(60):
        rnn.start(torch.zeros(6, core.state_size))
        core.zero_grad()
        optimizer.zero_grad()
        _, window = rnn.window(xs)
        window.backward(torch.zeros(3, 6))
        optimizer.step()
        errors.append(window.auxiliary_error.mean().item())
    assert errors[-1] < 0.05 * errors[0]
    for now, was in zip(auxiliary.parameters(), before, strict=True):
        assert not torch.equal(now, was)

    def through_core(with_task):
        core.zero_grad()
        rnn = DecoupledRNN(core, interface, FutureGradients(4, 8) if with_task else None)
        rnn.start(torch.zeros(6, core.state_size))
        rnn.window(xs)[1].backward(torch.zeros(3, 6))
        return gradients_of(core)

    assert any(
        not torch.equal(a, b) for a, b in zip(through_core(True), through_core(False), strict=True)
    )


def test_the_auxiliary_error_is_that_of_the_outputs_before_the_last():
    auxiliary = FutureGradients(3, 6)
    outputs, synthetic = torch.randn(4, 2, 3), torch.randn(2, 6)
    want = torch.stack([(auxiliary.predict(o) - synthetic).square().sum(1) for o in outputs[:-1]])
    torch.testing.assert_close(auxiliary.loss(outputs, synthetic), want.mean(0))
    assert torch.equal(auxiliary.loss(outputs[:1], synthetic), torch.zeros(2))


# -- outcomes --------------------------------------------------------------------------


def outcome_context(labels, classes):
    """``[B, W]`` labels, -1 for none, to ``[B, W·C]``."""
    return F.one_hot(labels + 1, classes + 1)[..., 1:].flatten(1).float()


def test_an_outcome_model_says_the_derivative_of_its_predicted_loss():
    torch.manual_seed(0)
    utility = OutcomeUtility(4, num_classes=3, horizon=2, hidden=[5])
    for p in utility.parameters():
        nn.init.normal_(p)
    labels = torch.tensor([[0, 2], [1, -1]])
    message = torch.randn(2, 4, requires_grad=True)
    logits = utility.body(message, message[:, :0]).view(2, 2, 3)
    loss = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=-1, reduction="none"
    ).view(2, 2)
    (want,) = torch.autograd.grad(loss.sum(), message)
    estimate = utility(message.detach(), outcome_context(labels, 3))
    torch.testing.assert_close(estimate.gradient, want)
    torch.testing.assert_close(estimate.value, loss.sum(1).detach())


def test_an_outcome_model_is_fitted_to_outputs_and_its_control_to_labels():
    """Given outputs that contradict the labels, each follows its own."""
    labels = torch.zeros(8, 1, dtype=torch.int64)
    outputs = torch.zeros(8, 1, 2)
    outputs[..., 1] = 1.0  # the receiver is sure of class 1
    said = {}
    for kind in (OutcomeUtility, LocalOutcomeUtility):
        interface = Interface(kind(3, num_classes=2, horizon=1), Adam(lr=0.1))
        for _ in range(50):
            message = interface.send(torch.ones(8, 3), outcome_context(labels, 2))
            message.settle(outcome=outputs)
        said[kind] = interface.estimate(
            torch.ones(1, 8, 3), outcome_context(labels, 2)[None]
        ).outcome.argmax(-1)
    assert (said[OutcomeUtility] == 1).all()
    assert (said[LocalOutcomeUtility] == 0).all()


def test_outcomes_beyond_the_window_are_those_foreseen_at_its_end():
    """W = 3, T = 2: two are given out, the third is the next boundary's own first."""
    core = LSTMCore(2, 3)
    utility = OutcomeUtility(core.state_size, num_classes=2, horizon=3)
    with torch.no_grad():
        utility.body.layers[0].bias[:2] = torch.tensor([1.0, -1.0])  # of the first step foreseen
    interface = Interface(utility, SGD(0.0))
    rnn = DecoupledRNN(core, interface)
    rnn.start(torch.zeros(1, core.state_size))
    context = torch.zeros(1, 6)
    rnn.window(torch.randn(2, 1, 2), context)[1].backward(torch.zeros(1))
    _, second = rnn.window(torch.randn(2, 1, 2), context)
    given = torch.tensor([[[0.3, 0.7]], [[0.9, 0.1]]])  # [T, B, C]
    seen = second._seen(given)
    torch.testing.assert_close(seen[0, :2], given[:, 0])
    torch.testing.assert_close(seen[0, 2], torch.tensor([1.0, -1.0]).softmax(0))
    last = rnn.window(torch.randn(1, 1, 2), last=True)[1]._seen(given[:1])
    assert torch.equal(last[0, 1:], torch.zeros(2, 2))  # after a true end there is nothing


def test_a_model_of_outcomes_wants_them():
    interface = Interface(OutcomeUtility(3, num_classes=2, horizon=1))
    with pytest.raises(ValueError, match="outcome"):
        interface.send(torch.ones(2, 3), torch.zeros(2, 2)).settle()


# -- λ-returns -------------------------------------------------------------------------


def squares(outputs, targets):
    return (outputs - targets).square().sum(-1)  # [T, B]


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_lambda_returns_equal_their_definition(share):
    """G_k = ∂(losses of window k + G_{k+1}·state)/∂state, mixed at every boundary with M."""
    torch.manual_seed(0)
    core = LSTMCore(2, 3).double()
    utility = GradientUtility(core.state_size).double()
    nn.init.normal_(utility.body.layers[0].weight)
    interface = Interface(utility, SGD(0.0), gradient_scale=0.7)
    returns = LambdaReturns(core, interface, squares, share, windows=3)
    rnn = DecoupledRNN(core, interface)
    rnn.start(torch.randn(4, core.state_size, dtype=torch.double))
    xs = torch.randn(8, 4, 2, dtype=torch.double)
    targets = torch.randn(8, 4, 3, dtype=torch.double)
    windows = []
    for begin in (0, 2, 4, 6):
        outputs, window = rnn.window(xs[begin : begin + 2])
        window.backward(squares(outputs, targets[begin : begin + 2]), settle=False)
        windows.append(window)
    for number in (1, 2, 3):
        returns._recorded.append(
            (windows[number].received, xs[2 * number : 2 * number + 2],
             targets[2 * number : 2 * number + 2])
        )  # fmt: skip

    gradient = 0.7 * windows[3].sent.synthetic
    for number in (3, 2, 1):
        state = windows[number].received.tensor.detach().requires_grad_()
        outputs, after = core(xs[2 * number : 2 * number + 2], state)
        loss = squares(outputs, targets[2 * number : 2 * number + 2]).sum()
        (gradient,) = torch.autograd.grad(loss + (after * gradient).sum(), state)
        if number > 1:
            guess = 0.7 * windows[number].received.synthetic
            gradient = share * gradient + (1 - share) * guess
    torch.testing.assert_close(returns.target(windows[3].sent), gradient)


def test_with_lambda_one_the_target_of_a_whole_sequence_is_the_true_gradient():
    torch.manual_seed(0)
    core = LSTMCore(2, 3).double()
    utility = GradientUtility(core.state_size).double()
    nn.init.normal_(utility.body.layers[0].weight)  # whatever it says has no weight
    seen = []
    interface = Interface(utility, SGD(0.0))
    interface.fit = lambda message, context, target: seen.append(target.gradient[0])
    returns = LambdaReturns(core, interface, squares, 1.0, windows=5)
    rnn = DecoupledRNN(core, interface)
    start = torch.randn(4, core.state_size, dtype=torch.double)
    xs = torch.randn(6, 4, 2, dtype=torch.double)
    targets = torch.randn(6, 4, 3, dtype=torch.double)
    state, states, loss = start, [], 0.0
    for begin in (0, 2, 4):
        outputs, state = core(xs[begin : begin + 2], state)
        states.append(state)
        loss = loss + squares(outputs, targets[begin : begin + 2]).sum()
    truth = torch.autograd.grad(loss, states[:2])
    rnn.start(start)
    for begin in (0, 2, 4):
        outputs, window = rnn.window(xs[begin : begin + 2], last=begin == 4)
        window.backward(squares(outputs, targets[begin : begin + 2]), settle=False)
        returns.add(window, xs[begin : begin + 2], targets[begin : begin + 2])
    assert len(seen) == 2
    for got, want in zip(seen, truth, strict=True):
        torch.testing.assert_close(got, want)


# -- a state that runs on --------------------------------------------------------------


def test_a_net_restored_between_two_windows_goes_on_as_if_undisturbed():
    def build():
        torch.manual_seed(0)
        core = LSTMCore(2, 3)
        rnn = DecoupledRNN(core, Interface(GradientUtility(core.state_size), Adam(0.01)))
        return core, rnn, torch.optim.SGD(core.parameters(), lr=0.1)

    xs = torch.randn(6, 4, 2)

    def go(rnn, optimizer, begin):
        outputs, window = rnn.window(xs[begin : begin + 2])
        optimizer.zero_grad()
        window.backward(outputs.square().sum(-1))
        optimizer.step()

    core, rnn, optimizer = build()
    rnn.start(torch.zeros(4, core.state_size))
    go(rnn, optimizer, 0)
    go(rnn, optimizer, 2)
    kept = {n: t.clone() for n, t in rnn.tensors().items()}
    utility = {n: t.clone() for n, t in rnn.interface.utilities.tensors().items()}
    parameters = [p.detach().clone() for p in core.parameters()]
    go(rnn, optimizer, 4)

    again, other, optimizer = build()
    with torch.no_grad():
        for p, value in zip(again.parameters(), parameters, strict=True):
            p.copy_(value)
    other.interface.utilities.load(utility)
    other.restore(kept)
    go(other, optimizer, 4)
    for a, b in zip(core.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(rnn.interface.utilities.parameters, other.interface.utilities.parameters)


def test_what_is_injected_discounts_a_critics_value():
    """A window's cost is its own losses and the share of the future that was injected."""
    core = LSTMCore(2, 3)
    utility = CriticUtility(core.state_size)
    with torch.no_grad():
        utility.body.layers[0].bias.fill_(4.0)
    interface = Interface(utility, SGD(0.5), gradient_scale=0.25)
    rnn = DecoupledRNN(core, interface)
    rnn.start(torch.zeros(2, core.state_size))
    rnn.window(torch.randn(1, 2, 2))[1].backward(torch.zeros(2))
    rnn.window(torch.randn(1, 2, 2))[1].backward(torch.ones(2))
    bias = interface.utilities.module(0).body.layers[0].bias
    # one step of 0.5 on (4 - (1 + 0.25 · 4))²
    torch.testing.assert_close(bias, torch.full_like(bias, 4.0 - 0.5 * 2 * (4 - (1 + 0.25 * 4))))
