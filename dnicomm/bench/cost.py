"""What a method costs beside what it reaches: time an update, and memory.

Both are measured side by side with backpropagation, for machines differ and are shared.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dnicomm.bench.experiment import Experiment
from dnicomm.bench.stopwatch import stopwatch

WARM_UP, MEASURED = 3, 15  # steps
SECONDS = 20.0  # no more than this for the measured ones, if not said otherwise


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that were made inside it and still live: now, and at most.

    Counts storages below autograd and ``torch.func``, so that activations kept for a backward
    pass, gradients and passing results all count, each once however many views it has.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}  # by address

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_address(leaf) for leaf in tree_leaves((args, kwargs)) if _is_plain(leaf)}
        result = func(*args, **(kwargs or {}))
        self._live = {at: kept for at, kept in self._live.items() if not kept[0].expired()}
        for leaf in tree_leaves(result):
            if _is_plain(leaf) and _address(leaf) not in given:  # a view is nothing new
                storage = leaf.untyped_storage()
                self._live[_address(leaf)] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return result


def _is_plain(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.layout == torch.strided


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def measure(fresh: Callable[[], Experiment], seconds: float = SECONDS) -> dict[str, float]:
    """Median milliseconds an update and peak MiB in one step, of an experiment and its baseline.

    The two take turns, step by step, until ``seconds`` are over. One thread on the CPU is timed by
    the processor's clock: on a machine that others use too, the wall's may say twice as much for
    either of the two. Memory is that of tensors made in the step, at most; on a GPU, what the
    allocator held at most.
    """
    method = fresh()
    both = {"method": method, "backprop": method.baseline()}
    times: dict[str, list[float]] = {name: [] for name in both}
    peaks: dict[str, int] = {}
    for name, experiment in both.items():
        experiment.to_middle()
        for _ in range(WARM_UP):
            experiment.step()
        peaks[name] = _peak(experiment)
    clock = stopwatch(_on_gpu(method))
    began = perf_counter()
    for _ in range(MEASURED):
        for name, experiment in both.items():
            start, updates = clock(), experiment.updates
            experiment.step()
            wait()
            times[name].append((clock() - start) / (experiment.updates - updates))
        if perf_counter() - began > seconds:
            break
    step, reference = (1e3 * statistics.median(times[name]) for name in both)
    return {
        "step_ms": step,
        "backprop_ms": reference,
        "relative_time": step / reference,
        "memory_mib": peaks["method"] / 2**20,
        "backprop_memory_mib": peaks["backprop"] / 2**20,
    }


def _peak(experiment: Experiment) -> int:
    if _on_gpu(experiment):
        wait()
        torch.cuda.reset_peak_memory_stats()
        experiment.step()
        wait()
        return torch.cuda.max_memory_allocated()
    with LiveBytes() as made:
        experiment.step()
    return made.peak


def _on_gpu(experiment: Experiment) -> bool:
    return any(tensor.is_cuda for tensor in experiment.moving().values())


def wait() -> None:
    """Until the GPU has done what it was told, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
