"""How many threads torch uses on the CPU during a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_chosen: ContextVar[int | None] = ContextVar("threads", default=None)
_before: list[list[int]] = []  # threads to set back, of the contexts that are open


@contextmanager
def torch_threads(count: int | None = None) -> Iterator[None]:
    """Set torch's threads on the CPU, and set them back afterwards; results depend on them.

    Args:
        count: of threads; None: as many as the innermost of these contexts around has chosen, else
            one. An agent's tensors are small: several threads spend their time waiting for each
            other, and where other programs use the cores too a run takes ten times as long.
    """
    count = count or _chosen.get() or 1
    count = min(count, os.cpu_count() or count)  # more would only take each other's turns
    before, token = [torch.get_num_threads()], _chosen.set(count)
    _before.append(before)
    try:
        _set(count)
        yield
    finally:
        _chosen.reset(token)
        place = next(i for i, kept in enumerate(_before) if kept is before)
        del _before[place]
        if place == len(_before):
            _set(before[0])
        else:  # another Python thread's has begun since, which sets back what was before this one
            _before[place][:] = before


def _set(count: int) -> None:
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
