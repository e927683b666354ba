"""Products of many small matrices side by side.

A population's linear maps have a batch of worlds each: some tens of rows by some tens of columns,
thousands of times. On a CPU numpy's library (OpenBLAS) has kernels for so small a matrix, and takes
a third to two thirds of the time of torch's (MKL), which packs each first.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dnicomm.core.workers import spread

LARGE = 2**20  # multiply-accumulates of one product, from which both libraries pack
FEW = 2**22  # of all products for each thread: of fewer, what numpy needs around them costs more
PIECE = 2**23  # of the products that a thread takes at once


def product(a: Tensor, b: Tensor) -> Tensor:
    """``[n, i, k] @ [n, k, j]``, outside of autograd."""
    n, i, k = a.shape
    j = b.shape[2]
    each = i * k * j
    if (
        each >= LARGE
        or n * each < FEW * torch.get_num_threads()
        or min(i, k, j) == 1  # there numpy calls no library
        or not (_by_library(a) and _by_library(b))
    ):
        return torch.bmm(a, b)
    out = a.new_empty(n, i, j)
    left, right, found = a.numpy(), b.numpy(), out.numpy()
    size = PIECE // each

    def multiply(start: int) -> None:
        piece = slice(start, start + size)
        np.matmul(left[piece], right[piece], out=found[piece])

    spread(multiply, range(0, n, size), small=False)
    return out


def _by_library(matrices: Tensor) -> bool:
    """Whether numpy hands them to its library: of floats, by rows or by columns."""
    rows, columns = matrices.shape[1:]
    down, along = matrices.stride()[1:]
    return (
        matrices.device.type == "cpu"
        and matrices.dtype in (torch.float32, torch.float64)
        and ((along == 1 and down >= columns) or (down == 1 and along >= rows))
    )
