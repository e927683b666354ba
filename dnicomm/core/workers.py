"""Many small pieces of work on all threads of torch.

Its own threads share one operation; one on a row of some thousand numbers is over before they have
met. Here each thread takes pieces of its own, and within a piece operations keep to one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from functools import cache
from multiprocessing.util import register_after_fork
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")

PIECES = 2  # for each thread; of fewer, to hand them out costs more than it saves


def spread(work: Callable[[Piece], Result], pieces: Sequence[Piece], small: bool) -> list[Result]:
    """What comes of each piece, which may be done at any time and in any thread.

    Args:
        small: whether no operation is worth a second thread, where pieces are too few to hand out.
    """
    threads = torch.get_num_threads()
    shared = threads > 1 and len(pieces) >= PIECES * threads
    if not shared:
        with _one_thread() if threads > 1 and small else nullcontext():
            return [work(piece) for piece in pieces]
    results: dict[int, Result] = {}
    numbers = iter(range(len(pieces)))  # the next piece is whoever's asks first

    def take() -> None:
        for number in numbers:
            results[number] = work(pieces[number])

    with _one_thread():
        others = [_pool(threads - 1).submit(take) for _ in range(threads - 1)]
        try:
            take()
        finally:
            wait(others)
    for other in others:
        other.result()  # raises what was raised there
    return [results[number] for number in range(len(pieces))]


@contextmanager
def _one_thread() -> Iterator[None]:
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


# threads do not come along into a process that is forked off
register_after_fork(_pool, lambda pool: pool.cache_clear())
