"""What backward passes find of gathered rows, part by part."""

import pytest
import torch
from torch import nn

from dnicomm.core import Adam, Population

tight = {"rtol": 1e-9, "atol": 1e-12}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.unused = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2)
        self.nothing = nn.Linear(4, 0)

    def forward(self, x):
        return self.two(self.one(x).tanh())


def built(members):
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="zero-element"):
        modules = [Net().double() for _ in range(members)]
    return modules, Population(modules, Adam())


def expected(modules, uses):
    """Gradients of a sum of squares by autograd, ``[n, P]``; uses: member and its input, each."""
    for member, x in uses:
        modules[member](x).square().sum().backward()
    return torch.stack([
        torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten()
                   for p in module.parameters()])
        for module in modules
    ])  # fmt: skip


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("uses", [1, 2])
def test_the_gradient_of_rows_is_that_of_their_modules(members, uses):
    modules, population = built(members)
    rows = population.rows()
    assert rows.gradient() is None
    inputs = torch.randn(uses, members, 5, 3, dtype=torch.double)
    for x in inputs:
        population.call(rows, "forward", x).square().sum().backward()
    wanted = expected(modules, [(m, x[m]) for x in inputs for m in range(members)])
    torch.testing.assert_close(torch.cat(rows.gradient(), 1), wanted, **tight)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("taken", [[1], [2, 0]])
def test_what_taken_rows_find_comes_to_those_they_are_taken_from(taken, whole):
    modules, population = built(3)
    rows = population.rows(torch.arange(3))
    x = torch.randn(3, 5, 3, dtype=torch.double)
    few = rows.take(torch.tensor(taken))
    population.call(few, "forward", x[: len(taken)]).square().sum().backward()
    uses = [(member, x[k]) for k, member in enumerate(taken)]
    if whole:
        population.call(rows, "forward", x).square().sum().backward()
        uses += [(member, x[member]) for member in range(3)]
    wanted = expected(modules, uses)
    torch.testing.assert_close(torch.cat(rows.gradient(), 1), wanted, **tight)


def test_rows_taken_twice_and_from_taken_ones():
    modules, population = built(4)
    rows = population.rows()
    x = torch.randn(3, 5, 3, dtype=torch.double)
    some = rows.take(torch.tensor([3, 0, 2]))
    few = some.take(torch.tensor([2, 0]))  # members 2 and 3
    outputs = [population.call(rows.take(torch.tensor([1, 2])), "forward", x[:2])]
    outputs += [population.call(some, "forward", x), population.call(few, "forward", x[1:])]
    sum(output.square().sum() for output in outputs).backward()
    uses = [(1, x[0]), (2, x[1]), (3, x[0]), (0, x[1]), (2, x[2]), (2, x[1]), (3, x[2])]
    torch.testing.assert_close(torch.cat(rows.gradient(), 1), expected(modules, uses), **tight)


def test_the_gradient_of_a_loss_leaves_nothing_behind():
    modules, population = built(2)
    rows = population.rows()
    x = torch.randn(2, 5, 3, dtype=torch.double)
    found = rows.gradient_of(population.call(rows, "forward", x).square().sum())
    torch.testing.assert_close(torch.cat(found, 1), expected(modules, enumerate(x)), **tight)
    assert rows.gradient() is None
