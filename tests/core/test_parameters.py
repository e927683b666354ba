"""What a population can hold, and what of a module it can't."""

import re

import pytest
import torch
from torch import nn

from dnicomm.core import Adam, Population
from dnicomm.core.parameters import check_parameters, copy_module, kept_tensors, rate_factors


def with_parameter(value, **keys):
    module = nn.Linear(2, 2)
    module.extra = nn.Parameter(value, **keys)
    return module


def hooked():
    module = nn.Linear(2, 2)
    module.weight.register_hook(lambda gradient: gradient * 0)
    return module


REFUSED = {
    "double": (
        with_parameter(torch.ones(2).double()),
        "parameter extra is float64; parameters that learn must be float32 (frozen ones, r",
    ),
    "half": (with_parameter(torch.ones(2).half()), "extra is float16; parameters that learn must"),
    "complex": (
        with_parameter(torch.ones(2, dtype=torch.complex64)),
        "parameter extra is complex64; parameters that learn must be float32",
    ),
    "lazy": (nn.LazyLinear(2), "parameter weight has no shape yet (a lazy layer); give the layer "),
    "lazy buffers": (nn.LazyBatchNorm1d(affine=False), "buffer running_mean has no shape yet"),
    "hooked": (hooked(), "parameter weight has a gradient hook, which would never be called"),
    "sparse": (nn.Embedding(3, 2, sparse=True), "weight has sparse gradients (sparse=True)"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("module", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_held(module, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        check_parameters(module, torch.float32)


def test_what_learns_is_of_one_type():
    with pytest.raises(ValueError, match="must be float"):
        Population([with_parameter(torch.ones(2).double())])


def test_a_sparse_table_at_rest_has_no_gradients_at_all():
    check_parameters(nn.Embedding(3, 2, sparse=True).requires_grad_(False), torch.float32)


DIFFERENT = {
    "shapes": (nn.Linear(2, 3), "parameter weight [2, 2] float32 and parameter weight [3, 2] fl"),
    "names": (nn.Linear(2, 2, bias=False), "parameter bias [2] float32 and no bias"),
    "rest": (
        nn.Linear(2, 2).requires_grad_(False),
        "parameter weight [2, 2] float32 and parameter weight [2, 2] float32, frozen",
    ),
}


@pytest.mark.parametrize(("other", "said"), DIFFERENT.values(), ids=DIFFERENT)
def test_members_differ_in_values_alone(other, said):
    with pytest.raises(ValueError, match="equal parameters and buffers; in numbers 0 and 1") as e:
        Population([nn.Linear(2, 2), other])
    assert said in str(e.value)


def test_members_have_equal_buffers():
    with pytest.raises(ValueError, match=r"buffer running_mean \[2\] float32 and no running_mean"):
        Population([nn.BatchNorm1d(2), nn.BatchNorm1d(2, track_running_stats=False)])


def named(factors):
    module = nn.ModuleDict({"body": nn.Linear(2, 2), "head": nn.Linear(2, 1)})
    module.rate_factors = factors
    return module


def test_the_first_pattern_that_fits_counts():
    factors = {"body.bias": 0.5, "body": 2, "*.weight": 3.0}
    assert rate_factors(named(factors)) == [2.0, 0.5, 3.0, 1.0]
    assert rate_factors(named({})) is None
    assert rate_factors(nn.Linear(2, 2)) is None


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ({"boby": 1.0}, r"called 'boby'\. Did you mean 'body'\? Known: body, head"),
        ({"body": -1.0}, "'body' is -1.0; must be a number from 0 on"),
        ({"body": float("nan")}, "'body' is nan; must be"),
        ({"body": "0.1"}, "'body' is 0.1; must be"),
        ({"body": True}, "'body' is True; must be"),
        (0.1, "rate_factors is a float; it must be a dict"),
    ],
)
def test_factors_that_do_not_fit(factors, said):
    with pytest.raises(ValueError, match=said):
        Population([named(factors)], Adam())


def test_members_have_equal_factors():
    with pytest.raises(ValueError, match="equal rate_factors"):
        Population([named({"body": 1.0}), named({"body": 2.0})])


def test_what_ticks_left_behind_does_not_hinder_a_copy():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(2, 2)
            self.seen, self.last = [], None

        def forward(self, x):
            self.last = self.body(x)
            self.seen.append(self.last)
            return self.last

    population = Population([Keeps(), Keeps()])
    population.call(population.rows(), "forward", torch.ones(2, 3, 2))
    assert {path for path, _ in kept_tensors(population.template)} == {"seen", "last"}
    assert population.module(1)(torch.ones(3, 2)).shape == (3, 2)
    module = Keeps()
    module(torch.ones(3, 2))
    copied = copy_module(module)
    assert torch.equal(copied.last, module.last)
    assert not copied.last.requires_grad
