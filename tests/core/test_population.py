"""Stacked equals looped; one row equals torch.optim; a bad row harms nobody."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dnicomm.core import SGD, Adam, Population


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(5, 7)
        self.norm = nn.BatchNorm1d(7)
        self.b = nn.Linear(7, 3)

    def forward(self, x):
        return self.b(torch.tanh(self.norm(self.a(x))))


def looped_optimizer(description, parameters):
    if isinstance(description, Adam):
        return torch.optim.Adam(parameters, description.lr, description.betas, description.eps)
    return torch.optim.SGD(parameters, description.lr, description.momentum)


def states(population):
    return [population.module(row).state_dict() for row in range(population.size)]


@pytest.mark.parametrize(
    "optimizer",
    [Adam(1e-2), Adam(1e-2, clip=0.05), SGD(0.1), SGD(0.1, momentum=0.9), SGD(0.1, clip=0.01)],
)
@pytest.mark.parametrize("size", [1, 4])
def test_stacked_equals_looped(optimizer, size, device):
    """Rows tick at irregular times; each ends where it ends alone under torch.optim."""
    torch.manual_seed(0)
    modules = [Net().double().to(device) for _ in range(size)]
    population = Population(modules, optimizer).to(device)
    alone = [looped_optimizer(optimizer, m.parameters()) for m in modules]
    schedule = torch.Generator().manual_seed(1)
    for _ in range(12):
        due = [i for i in range(size) if torch.rand((), generator=schedule) < 0.6]
        if not due:
            continue
        x = torch.randn(len(due), 6, 5, dtype=torch.double, device=device)
        rows = population.rows(None if len(due) == size else torch.tensor(due, device=device))
        out = population.call(rows, "forward", x)
        out.square().mean((1, 2)).sum().backward()
        population.step(rows)
        for k, i in enumerate(due):
            alone[i].zero_grad()
            modules[i](x[k]).square().mean().backward()
            if optimizer.clip is not None:
                nn.utils.clip_grad_norm_(modules[i].parameters(), optimizer.clip)
            alone[i].step()
    for own, module in zip(states(population), modules, strict=True):
        for name, value in module.state_dict().items():
            torch.testing.assert_close(own[name], value, rtol=1e-7, atol=1e-9)


@given(rows=st.sets(st.integers(0, 4), min_size=1), bad=st.integers(0, 4))
@settings(max_examples=20, deadline=None)
def test_a_row_that_is_not_finite_is_left_alone(rows, bad):
    torch.manual_seed(0)
    modules = [nn.Linear(3, 2) for _ in range(5)]
    population, twin = Population(modules, Adam(0.1)), Population(modules, Adam(0.1))
    index = torch.tensor(sorted(rows))
    gradient = torch.randn(len(index), population.parameters.shape[1])
    spoiled = gradient.clone()
    spoiled[index == bad, 0] = float("nan")
    for p, g in ((population, spoiled), (twin, gradient)):
        p.step(p.rows(index), [g.clone()])
        p.step(p.rows(index), [gradient.clone()])
    assert torch.isfinite(population.parameters).all()
    others = [i for i in range(5) if i != bad]
    torch.testing.assert_close(population.parameters[others], twin.parameters[others])
    assert population.skipped.tolist() == [int(i == bad and i in rows) for i in range(5)]
    if bad in rows:  # one step behind its twin, moments included
        assert population.updates[bad] == 1
        assert population.slots["steps"][bad] == 1


def test_a_row_without_a_step_keeps_everything():
    population = Population([nn.Linear(2, 2) for _ in range(3)], Adam(0.1))
    ones = torch.ones(3, population.parameters.shape[1])
    population.step(population.rows(), [ones])
    before = {k: v.clone() for k, v in population.tensors().items()}
    population.step(population.rows(), [ones], live=torch.tensor([True, False, True]))
    for name, value in population.tensors().items():
        assert torch.equal(value[1], before[name][1]), name
    assert not torch.equal(population.parameters[0], before["parameters"][0])


def test_tensors_and_load_go_round():
    torch.manual_seed(0)
    population = Population([Net() for _ in range(2)], Adam(0.1))
    other = Population([Net() for _ in range(2)], Adam(0.1))
    rows = population.rows()
    population.call(rows, "forward", torch.randn(2, 4, 5)).sum().backward()
    population.step(rows)
    other.load({k: v.clone() for k, v in population.tensors().items()})
    for name, value in population.tensors().items():
        assert torch.equal(value, other.tensors()[name]), name
    with pytest.raises(ValueError, match="missing"):
        other.load({})


def test_modules_must_be_equal():
    with pytest.raises(ValueError, match="equal parameters"):
        Population([nn.Linear(2, 2), nn.Linear(2, 3)])
    with pytest.raises(ValueError, match="at least one"):
        Population([])


def test_the_members_are_copies():
    module = nn.Linear(2, 2)
    before = copy.deepcopy(module.state_dict())
    population = Population([module, nn.Linear(2, 2)], SGD(1.0))
    population.step(population.rows(), [torch.ones(2, 6)])
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


class Tied(nn.Module):
    """Two layers with one weight and, by two names, one buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        scale = torch.randn(4)
        self.a.register_buffer("scale", scale)
        self.b.register_buffer("scale", scale)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x) * self.a.scale)) * self.b.scale


@pytest.mark.parametrize("size", [1, 3])
def test_tied_weights_are_one_weight(size, device):
    torch.manual_seed(0)
    modules = [Tied().double().to(device) for _ in range(size)]
    for module in modules:  # moving unties buffers, if to another device or type
        module.b.scale = module.a.scale
    population = Population(modules, SGD(0.1)).to(device)
    assert population.parameters.shape[1] == 4 * 4 + 2 * 4
    alone = [torch.optim.SGD(m.parameters(), 0.1) for m in modules]
    losses = []
    x = torch.randn(size, 6, 4, dtype=torch.double, device=device)
    for _ in range(5):
        rows = population.rows()
        out = population.call(rows, "forward", x)
        out.square().mean((1, 2)).sum().backward()
        population.step(rows)
        losses.append(out.square().mean().item())
        for k, module in enumerate(modules):
            expected = module(x[k])
            torch.testing.assert_close(out[k], expected, rtol=1e-9, atol=1e-12)
            alone[k].zero_grad()
            expected.square().mean().backward()
            alone[k].step()
    assert losses[-1] < losses[0]
    for row, module in enumerate(modules):
        member = population.module(row)
        assert member.a.weight is member.b.weight
        for name, value in module.state_dict().items():
            torch.testing.assert_close(member.state_dict()[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", [Adam(0.1), SGD(0.1, momentum=0.9)])
@pytest.mark.parametrize("index", [None, [0, 2]])
def test_a_step_to_what_is_not_finite_is_refused(optimizer, index):
    """The gradient is finite, the parameters after it would not be."""
    torch.manual_seed(0)
    population = Population([nn.Linear(3, 2) for _ in range(3)], optimizer)
    at = None if index is None else torch.tensor(index)
    gradient = torch.randn(3 if at is None else 2, population.parameters.shape[1])
    population.step(population.rows(at), [gradient])
    slot = "mean" if isinstance(optimizer, Adam) else "velocity"
    population.slots[slot][0, 0] = float("inf")
    before = {name: value.clone() for name, value in population.tensors().items()}
    population.step(population.rows(at), [gradient])
    assert torch.isfinite(population.parameters).all()
    for name, value in population.tensors().items():
        if name != "skipped":
            assert torch.equal(value[0], before[name][0]), name
    assert population.skipped.tolist() == [1, 0, 0]
    assert population.updates.tolist() == [1, 2 if at is None else 0, 2]
    assert not torch.equal(population.parameters[2], before["parameters"][2])
