"""Stacked products are those of torch, whichever library makes them."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from dnicomm.core import products
from dnicomm.core.products import product

LAYOUTS = ["rows", "columns", "part of a wider row", "one for all", "every other column"]


def laid_out(layout, n, rows, columns, dtype, seed):
    """Matrices ``[n, rows, columns]`` that lie in memory as ``layout`` says."""
    draw = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=draw, dtype=dtype)

    if layout == "rows":
        return random(n, rows, columns)
    if layout == "columns":
        return random(n, columns, rows).transpose(1, 2)
    if layout == "part of a wider row":
        return random(n, rows * columns + 5)[:, 2 : 2 + rows * columns].view(n, rows, columns)
    if layout == "one for all":
        return random(1, rows, columns).expand(n, -1, -1)
    return random(n, rows, 2 * columns)[:, :, ::2]


@pytest.fixture
def calls(monkeypatch):
    """How often numpy was asked, of products however few."""
    asked = []
    matmul = np.matmul

    def counted(*args, **kwargs):
        asked.append(args[0].shape)
        return matmul(*args, **kwargs)

    monkeypatch.setattr(products, "FEW", 0)
    monkeypatch.setattr(np, "matmul", counted)
    return asked


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_layout_gives_what_torch_gives(calls, threads, dtype):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    size = st.integers(1, 12)

    @settings(max_examples=120, deadline=None)
    @given(
        n=st.integers(0, 9), i=size, k=size, j=size,
        left=st.sampled_from(LAYOUTS), right=st.sampled_from(LAYOUTS), seed=st.integers(0, 99),
    )  # fmt: skip
    def check(n, i, k, j, left, right, seed):
        a, b = laid_out(left, n, i, k, dtype, seed), laid_out(right, n, k, j, dtype, seed + 1)
        close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {}
        torch.testing.assert_close(product(a, b), torch.bmm(a, b), **close)
        bias = laid_out("rows", n, 1, j, dtype, seed + 2)
        torch.testing.assert_close(product(a, b, bias[:, 0]), torch.bmm(a, b) + bias, **close)
        if n:  # one alone
            assert torch.equal(product(a[0], b[0]), torch.mm(a[0], b[0]))
            torch.testing.assert_close(product(a[0], b[0], bias[0, 0]), a[0] @ b[0] + bias[0, 0])

    try:
        check()
    finally:
        torch.set_num_threads(before)
    assert calls  # else nothing was compared


@pytest.mark.parametrize(
    ("shapes", "by_numpy"),
    [
        (((6, 16, 32), (6, 32, 8)), True),
        (((6, 16, 1), (6, 1, 8)), False),  # an outer product
        (((2, 64, 128), (2, 128, 128)), False),  # large: both are as fast
    ],
)
def test_who_makes_it(calls, shapes, by_numpy):
    a, b = (torch.randn(shape) for shape in shapes)
    torch.testing.assert_close(product(a, b), torch.bmm(a, b))
    assert bool(calls) == by_numpy


def test_few_are_made_by_torch(calls, monkeypatch):
    monkeypatch.setattr(products, "FEW", 2**22)
    product(torch.randn(6, 16, 32), torch.randn(6, 32, 8))
    assert not calls


def test_other_numbers_are_left_to_torch(calls):
    with torch.autocast("cpu", torch.bfloat16):
        assert product(torch.randn(2, 3, 4), torch.randn(2, 4, 3)).dtype == torch.bfloat16
    a = torch.arange(24).reshape(2, 3, 4)
    assert torch.equal(product(a, a.transpose(1, 2)), torch.bmm(a, a.transpose(1, 2)))
    half = torch.randn(2, 3, 4).to(torch.bfloat16)
    assert product(half, half.transpose(1, 2)).dtype == torch.bfloat16
    assert not calls
