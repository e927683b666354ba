"""Where an agent-tick's time goes, by kind of operation: what stands above its floor."""

from __future__ import annotations

import math
from time import perf_counter

import torch

from dnicomm.bench.speed.crowd import Crowd
from dnicomm.core.products import BY_NUMPY
from dnicomm.sim import Simulation

TICKS = 2_000  # about as many are looked at, and at least ``LEAST`` units of world time
LEAST = 3

PRODUCTS, ADAM, GATHERED, MOVED = "products", "Adam", "gathered", "put together"
SUMS, EACH, REST = "sums", "number by number", "Python, numpy and dispatch"
KINDS = {
    BY_NUMPY: PRODUCTS, "bmm": PRODUCTS, "baddbmm": PRODUCTS, "addmm": PRODUCTS, "mm": PRODUCTS,
    "_fused_adam_": ADAM, "item": ADAM, "_local_scalar_dense": ADAM,
    "index_select": GATHERED, "index": GATHERED,
    "cat": MOVED, "stack": MOVED, "copy_": MOVED, "index_copy": MOVED, "index_copy_": MOVED,
    "index_add_": MOVED, "scatter_add_": MOVED,
    "sum": SUMS, "dot": SUMS, "linalg_vector_norm": SUMS, "any": SUMS, "all": SUMS,
    **dict.fromkeys(
        ("add", "add_", "sub", "mul", "mul_", "div", "div_", "neg", "neg_", "where", "tanh",
         "tanh_backward", "sigmoid", "sigmoid_backward", "clamp_min", "threshold_backward",
         "bitwise_and", "ge", "gt", "lt", "fill_", "zero_", "_to_copy"), EACH),
}  # fmt: skip
NAMES = (PRODUCTS, ADAM, GATHERED, MOVED, SUMS, EACH, REST)


def measure_operations(simulation: Simulation, crowd: Crowd, episode: int) -> dict[str, float]:
    """Seconds an agent-tick of a simulation that has run before, by kind.

    Operations are timed one by one by torch's profiler, which slows small ones down. What is left
    of an episode that nobody looks at is the last kind.
    """
    units = math.ceil(TICKS / max(crowd.num_agents * crowd.rate, 1))
    limit = min(max(units, LEAST), crowd.horizon)
    before, start = simulation.agent_ticks(), perf_counter()
    simulation.engine.play(episode, limit)
    seconds, ticks = perf_counter() - start, simulation.agent_ticks() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        simulation.engine.play(episode + 1, limit)
    watched = simulation.agent_ticks() - before - ticks
    found = dict.fromkeys(NAMES, 0.0)
    for event in profile.key_averages():
        kind = KINDS.get(event.key.removeprefix("aten::"))
        if kind is not None:
            found[kind] += 1e-6 * event.self_cpu_time_total / watched
    found[REST] = max(seconds / ticks - sum(found.values()), 0.0)
    return found
