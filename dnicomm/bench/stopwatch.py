"""The clock that a measurement reads."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, process_time

import torch


def stopwatch(on_gpu: bool = False) -> Callable[[], float]:
    """Seconds of the processor where one thread on the CPU does all, else the wall's.

    On a machine that others use too the wall's may say twice as much; but several threads' seconds
    of the processor add up, and a GPU's are not among them.
    """
    alone = torch.get_num_threads() == 1 and not on_gpu
    return process_time if alone else perf_counter
