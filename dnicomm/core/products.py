"""Products of many small matrices side by side.

A population's linear maps have a batch of worlds each: some tens of rows by some tens of columns,
thousands of times. On a CPU with AVX-512 numpy's library (OpenBLAS) has kernels for so small a
matrix, and takes a third to two thirds of the time of torch's (MKL); without it they are as fast.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dnicomm.core.workers import PIECES, spread

BY_NUMPY = "products by numpy"  # in traces
# Multiply-accumulates of one product from which numpy's library is no better, or might take threads
# of its own; of all products up to which what numpy needs around them costs more.
LARGE = 2**20 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 2**18
FEW = 2**21


def product(a: Tensor, b: Tensor, plus: Tensor | None = None) -> Tensor:
    """``[n, i, k] @ [n, k, j]``, and ``plus`` ``[n, j]`` on each row of it, outside of autograd.

    Of one product the same without ``n``.
    """
    if a.dim() == 2:
        return torch.mm(a, b) if plus is None else torch.addmm(plus, a, b)
    if torch.compiler.is_compiling() or not _numpy_is_quicker(a, b):
        return torch.bmm(a, b) if plus is None else torch.baddbmm(plus[:, None], a, b)
    out = by_numpy(a, b)
    return out if plus is None else out.add_(plus[:, None])


def by_numpy(a: Tensor, b: Tensor) -> Tensor:
    """``[n, i, k] @ [n, k, j]`` of tensors on the CPU, on all threads."""
    n, threads = len(a), torch.get_num_threads()
    out = a.new_empty(n, a.shape[1], b.shape[2])
    left, right, found = a.numpy(), b.numpy(), out.numpy()
    size = max(-(-n // (PIECES * threads)), 1)

    def multiply(start: int) -> None:
        piece = slice(start, start + size)
        np.matmul(left[piece], right[piece], out=found[piece])

    with torch.profiler.record_function(BY_NUMPY):  # which torch's profiler does not see
        spread(multiply, range(0, n, size), small=False)
    return out


def _numpy_is_quicker(a: Tensor, b: Tensor) -> bool:
    n, i, k = a.shape
    j = b.shape[2]
    each = i * k * j
    return (
        each < LARGE
        and n * each >= FEW * torch.get_num_threads() ** 2  # torch's threads meet sooner
        and min(i, k, j) > 1  # else numpy calls no library
        and not torch.is_autocast_enabled("cpu")
        and _by_library(a)
        and _by_library(b)
    )


def _by_library(matrices: Tensor) -> bool:
    """Whether numpy hands them to its library: of floats, by rows or by columns."""
    rows, columns = matrices.shape[1:]
    down, along = matrices.stride()[1:]
    return (
        matrices.device.type == "cpu"
        and matrices.dtype in (torch.float32, torch.float64)
        and ((along == 1 and down >= columns) or (down == 1 and along >= rows))
    )
