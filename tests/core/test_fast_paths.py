"""What goes without autograd, and steps that gather nothing, equal the plain ways."""

import copy
import itertools
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dnicomm.core import (
    Adam,
    CriticUtility,
    DecoupledSequential,
    GradientUtility,
    Interface,
    LayerAdam,
    LocalUtility,
    Population,
    Target,
    in_place,
)
from dnicomm.core.closed_form import closed_form
from dnicomm.core.in_place import RowsInPlace
from dnicomm.core.perceptron import PerceptronLayer

shapes = {
    "rows": st.integers(1, 4),
    "batch": st.integers(1, 5),
    "size": st.integers(1, 6),
    "context": st.integers(0, 3),
    "hidden": st.lists(st.integers(1, 4), max_size=2),
    "seed": st.integers(0, 99),
}
tight = {"rtol": 1e-9, "atol": 1e-11}


def plain(interface):
    """The same interface, by autograd and gathered steps."""
    twin = copy.deepcopy(interface)
    twin._closed = None
    return twin


def gathered(population):
    twin = copy.deepcopy(population)
    twin._rows_in_place = lambda: None
    return twin


def utility(kind, size, context, hidden):
    if kind == "gradient":
        model = GradientUtility(size, context, hidden)
    elif kind == "critic":
        model = CriticUtility(size, context, num_classes=0, hidden=hidden)
    else:
        model = CriticUtility(size, context + 2, num_classes=2, hidden=hidden)
    for parameter in model.parameters():  # a zero start would hide mistakes
        nn.init.normal_(parameter, std=0.5)
    return model.double()


def context_of(kind, lead, context, labelled=True):
    c = torch.randn(*lead, context, dtype=torch.double)
    if kind != "labelled critic":
        return c
    label = F.one_hot(torch.randint(0, 2, lead), 2).double()
    return torch.cat([label * (torch.rand(*lead, 1) < 0.8), c], -1)


kinds = pytest.mark.parametrize("kind", ["gradient", "critic", "labelled critic"])


@kinds
@given(masked=st.booleans(), bad=st.booleans(), **shapes)
@settings(max_examples=25, deadline=None)
def test_many_models_are_evaluated_and_fitted_as_by_autograd(
    kind, rows, batch, size, context, hidden, seed, masked, bad
):
    torch.manual_seed(seed)
    models = [utility(kind, size, context, hidden) for _ in range(rows + 1)]
    fast = Interface(models, Adam(1e-2))
    assert fast._closed is not None
    slow = plain(fast)
    for _ in range(3):
        chosen = torch.randperm(rows + 1)[:rows].sort().values
        message = torch.randn(rows, batch, size, dtype=torch.double)
        seen = context_of(kind, (rows, batch), context)
        target = Target(torch.randn_like(message), torch.randn(rows, batch, dtype=torch.double))
        if bad:
            target.gradient[0, 0, 0] = float("nan")
        mask = torch.rand(rows, batch) < 0.5 if masked else None
        for a, b in zip(
            fast.estimate(message, seen, chosen)[:2],
            slow.estimate(message, seen, chosen)[:2],
            strict=True,
        ):
            torch.testing.assert_close(a, b, **tight)
        fast.fit(message, seen, target, chosen, mask)
        slow.fit(message, seen, target, chosen, mask)
    for name, value in fast.utilities.tensors().items():
        torch.testing.assert_close(value, slow.utilities.tensors()[name], msg=name, **tight)


@kinds
@given(reduction=st.sampled_from(["mean", "sum"]), bad=st.booleans(), **shapes)
@settings(max_examples=25, deadline=None)
def test_one_channel_sends_and_settles_as_by_autograd(
    kind, rows, batch, size, context, hidden, seed, reduction, bad
):
    torch.manual_seed(seed)
    model = utility(kind, size, context, hidden)
    fast = Interface(model, Adam(1e-2), gradient_scale=0.7, reduction=reduction)
    slow = plain(fast)
    h = torch.randn(batch, size, dtype=torch.double, requires_grad=True)
    for _ in range(rows):
        seen = context_of(kind, (batch,), context)
        target, loss = torch.randn_like(h).detach(), torch.randn(batch, dtype=torch.double)
        if bad:
            target[0, 0] = float("inf")
        found = []
        for interface in (fast, slow):
            h.grad = None
            first, second = interface.send(h, seen), interface.send(h, seen)
            told = h.grad.clone()
            # the second is settled when the model has been fitted since it was sent
            losses = [m.settle(loss=loss, target=target) for m in (first, second)]
            found.append([first.synthetic, first.injected, first.value, told, *losses])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, equal_nan=True, **tight)
    for name, value in fast.utilities.tensors().items():
        torch.testing.assert_close(value, slow.utilities.tensors()[name], msg=name, **tight)


def test_what_has_no_closed_form_goes_by_autograd():
    class Mine(GradientUtility):
        pass

    assert closed_form(GradientUtility(3, 2)) is not None
    for model in (
        Mine(3),
        GradientUtility(3, normalise=True),
        GradientUtility((2, 4, 4)),
        CriticUtility(3, sobolev=0.1),
        LocalUtility(3, 2, num_classes=2),
    ):
        assert closed_form(model) is None


@given(
    rows=st.integers(1, 5),
    size=st.integers(1, 7),
    clip=st.sampled_from([None, 0.5]),
    scale=st.sampled_from([1.0, 16.0, 3.0]),
    decay=st.booleans(),
    bad=st.booleans(),
    double=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_steps_in_place_equal_gathered_steps(rows, size, clip, scale, decay, bad, double, seed):
    torch.manual_seed(seed)
    dtype = torch.double if double else torch.float32
    modules = [nn.Linear(size, 2).to(dtype) for _ in range(rows)]
    fast = Population(modules, Adam(0.1, clip=clip, decay=decay))
    slow = gathered(fast)
    assert fast._rows_in_place() is not None
    for step in range(4):
        count = int(torch.randint(1, rows + 1, ()))
        index = None if count == rows else torch.randperm(rows)[:count].sort().values
        gradient = torch.randn(count, fast.parameters.shape[1], dtype=dtype)
        if bad:
            gradient[0, 0] = float("nan")
        live = None if step % 2 else torch.rand(count) < 0.7
        width = gradient.shape[1]
        cuts = [width] if step % 2 else [width // 3, width - width // 3]  # whole, or as it is found
        for population in (fast, slow):
            found = gradient.clone().split(cuts, 1)
            population.step(population.rows(index), found, live, progress=step / 8, scale=scale)
    # the plain way corrects the bias of moments in single precision
    close = tight if double else {"rtol": 1e-4, "atol": 1e-5}
    for name, value in fast.tensors().items():
        torch.testing.assert_close(value, slow.tensors()[name], msg=name, **close)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_blocks_of_rows_are_stepped_alike(threads, narrow, clip, monkeypatch):
    """Some blocks, many, and one; in turn, and by threads."""
    monkeypatch.setattr(in_place, "BLOCK", 64)
    monkeypatch.setattr(in_place, "NARROW", 100 if narrow else 1)
    torch.manual_seed(0)
    fast = Population([nn.Linear(5, 2).double() for _ in range(61)], Adam(0.1, clip=clip))
    slow = gathered(fast)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for count in (3, 12, 61, 40):
            index = None if count == 61 else torch.randperm(61)[:count].sort().values
            gradient = torch.randn(count, 12, dtype=torch.double)
            gradient[count // 2, 3] = float("nan")
            live = torch.rand(count) < 0.8
            for population in (fast, slow):
                found = gradient.clone().split([5, 4, 3], 1)
                population.step(population.rows(index), found, live, scale=3.0)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for name, value in fast.tensors().items():
        torch.testing.assert_close(value, slow.tensors()[name], msg=name, **tight)


class Shift(nn.Module):
    """One parameter, whose gradient autograd gives as one number, repeated."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return x + self.shift.sum()


@pytest.mark.parametrize("members", [1, 3])
def test_a_gradient_that_is_one_number_repeated(members):
    fast = Population([Shift() for _ in range(members)], Adam(0.1))
    slow = gathered(fast)
    for population in (fast, slow):
        rows = population.rows()
        loss = population.call(rows, "forward", torch.ones(members, 2)).square().sum()
        population.step(rows, rows.gradient_of(loss))
    assert not torch.equal(fast.parameters, torch.zeros(members, 3))
    torch.testing.assert_close(fast.parameters, slow.parameters, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast.slots["mean"], slow.slots["mean"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_step_rows_of_their_own(again):
    torch.manual_seed(0)
    interface = Interface(GradientUtility(3))
    interface.send(torch.randn(4, 3)).settle(target=torch.randn(4, 3))
    twin = again(interface)
    h, target = torch.randn(4, 3), torch.randn(4, 3)
    for one in (interface, twin):
        one.send(h).settle(target=target)
    for name, value in interface.utilities.tensors().items():
        assert torch.equal(value, twin.utilities.tensors()[name]), name
    before = interface.utilities.parameters.clone()
    twin.send(h).settle(target=target)
    assert torch.equal(interface.utilities.parameters, before)
    assert not torch.equal(twin.utilities.parameters, before)


def test_a_moment_that_somebody_spoilt_is_seen():
    population = Population([nn.Linear(2, 1) for _ in range(2)], Adam())
    population.step(population.rows(), [torch.ones(2, 3)])
    assert population._rows_in_place() is not None
    population.slots["mean"][1, 0] = float("nan")
    assert population._rows_in_place() is None
    population.slots["mean"][1, 0] = 0.0
    assert population._rows_in_place() is not None
    assert not RowsInPlace.can(Adam(eps=0.0), population.parameters)


@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    rectified=st.booleans(),
    batch=st.integers(1, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_a_perceptron_passes_as_by_autograd(sizes, rectified, batch, seed):
    torch.manual_seed(seed)
    parts = []
    for a, b in itertools.pairwise(sizes):
        parts += [nn.Linear(a, b).double(), nn.ReLU()]
    layer = nn.Sequential(*parts[: None if rectified else -1])
    twin = copy.deepcopy(layer)
    perceptron = PerceptronLayer.of(layer)
    x = torch.randn(batch, sizes[0], dtype=torch.double, requires_grad=True)
    assert perceptron.takes(x)
    outer = torch.randn(batch, sizes[-1], dtype=torch.double)
    passed = perceptron.forward(x.detach())
    inner = perceptron.backward(passed, outer, inward=True)
    out = twin(x)
    out.backward(outer)
    torch.testing.assert_close(passed[-1], out, **tight)
    torch.testing.assert_close(inner, x.grad, **tight)
    for own, other in zip(layer.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, **tight)


def test_layers_that_are_more_than_a_perceptron_are_left_to_autograd():
    assert PerceptronLayer.of(nn.Sequential(nn.ReLU(), nn.Linear(2, 2))) is None
    assert PerceptronLayer.of(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))) is None
    assert PerceptronLayer.of(nn.Linear(2, 2, bias=False)) is None
    layer = nn.Linear(2, 2)
    perceptron, x = PerceptronLayer.of(layer), torch.randn(3, 2)
    assert perceptron.takes(x)
    assert not perceptron.takes(x.double())
    layer.register_forward_hook(lambda *_: None)
    assert not perceptron.takes(x)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("hidden", [(), (5,)])
@pytest.mark.parametrize("cut", [None, 1])
def test_decoupled_perceptrons_learn_as_by_autograd(labels, hidden, cut):
    torch.manual_seed(0)
    x, y = torch.randn(7, 6, dtype=torch.double), torch.randint(0, 3, (7,))

    def net():
        torch.manual_seed(1)
        layers = [nn.Sequential(nn.Linear(6, 4), nn.ReLU()), nn.Sequential(nn.Linear(4, 4),
                  nn.ReLU()), nn.Linear(4, 3)]  # fmt: skip
        models = [GradientUtility(4, 3 * labels, hidden).double() for _ in range(2)]
        interfaces = [None if i == cut else Interface(m, Adam(1e-2)) for i, m in enumerate(models)]
        return DecoupledSequential([layer.double() for layer in layers], interfaces)

    fast, slow = net(), net()
    slow._perceptrons = [None] * 3
    slow.interfaces = [None if one is None else plain(one) for one in slow.interfaces]
    context = F.one_hot(y, 3).double() if labels else None
    for _ in range(5):
        losses = [
            one.update(x, lambda out: F.cross_entropy(out, y, reduction="none"), context)
            for one in (fast, slow)
        ]
        torch.testing.assert_close(*losses, **tight)
    for own, other in zip(fast.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(own, other, **tight)


def test_the_adam_of_layers_is_torchs():
    torch.manual_seed(0)
    own, other = nn.Linear(5, 3), nn.Linear(5, 3)
    other.load_state_dict(own.state_dict())
    fast = LayerAdam(own.parameters(), lr=1e-2, betas=(0.8, 0.99), eps=1e-6)
    slow = torch.optim.Adam(other.parameters(), lr=1e-2, betas=(0.8, 0.99), eps=1e-6)
    for step in range(6):
        x = torch.randn(4, 5)
        for layer, optimizer in ((own, fast), (other, slow)):
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            optimizer.step()
        if step == 2:  # a checkpoint of either goes into the other
            kept = [copy.deepcopy(o.state_dict()) for o in (fast, slow)]
            fast.load_state_dict(kept[1])
            slow.load_state_dict(kept[0])
            assert fast.state_dict().keys() == slow.state_dict().keys()
    torch.testing.assert_close(own.weight, other.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(own.bias, other.bias, rtol=1e-5, atol=1e-6)
