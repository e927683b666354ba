"""Masked values are what torch.where makes of them."""

import pytest
import torch

from dnicomm.core import masking
from dnicomm.core.masking import masked


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 4, 5, 2), (2, masking._FEW)])
@pytest.mark.parametrize("few", [1, masking._FEW])
def test_masked_is_where(dtype, shape, few, monkeypatch):
    monkeypatch.setattr(masking, "_FEW", few)
    torch.manual_seed(0)
    values = torch.randn(shape).to(dtype)
    values.view(-1)[::3] = float("nan")
    values.view(-1)[1::7] = float("-inf")
    mask = torch.rand(shape[:2]) < 0.5
    wide = mask.reshape(*shape[:2], *[1] * (len(shape) - 2)).expand(shape)
    found = masked(values, mask)
    assert torch.equal(found.nan_to_num(), torch.where(wide, values, 0.0).nan_to_num())
    assert torch.equal(found.isnan(), values.isnan() & wide)
    rows = values.transpose(0, 1)  # not one after the other
    assert torch.equal(masked(rows, mask.T).nan_to_num(), found.transpose(0, 1).nan_to_num())


def test_a_gradient_passes_where_the_mask_is(monkeypatch):
    monkeypatch.setattr(masking, "_FEW", 1)
    values = torch.randn(2, 3, 4, requires_grad=True)
    mask = torch.tensor([[True, False, True], [False, True, True]])
    masked(values, mask).sum().backward()
    assert torch.equal(values.grad, mask[..., None].expand(2, 3, 4).float())
