"""Many small pieces of work on all threads of torch.

Its own threads share one operation; one on a row of some thousand numbers is over before they have
met. Here each thread takes pieces of its own, and within a piece operations keep to one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")

FEW = 4  # pieces for each thread; of fewer, to hand them out costs more than it saves


def spread(work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """What comes of each piece, which may be done at any time and in any thread."""
    threads = torch.get_num_threads()
    if threads == 1 or len(pieces) < FEW * threads:
        return [work(piece) for piece in pieces]
    with one_thread():
        return list(_pool(threads).map(work, pieces))


@contextmanager
def one_thread() -> Iterator[None]:
    """Within, operations of this thread keep to one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    # a thread keeps the number that torch has when it begins: one
    return ThreadPoolExecutor(threads, "dnicomm", initializer=torch.get_num_threads)
