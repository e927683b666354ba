"""Stacked products: numpy's library beside torch's, for the linear maps of many small agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dnicomm.bench.speed.measuring import Spread, in_turns, ratio
from dnicomm.core.products import by_numpy

MAPS = ((133, 32), (64, 64), (32, 32))  # inputs and outputs: of a ``Recurrent`` agent of width 32


@dataclass(frozen=True)
class ProductRow:
    """One line of the table: a linear map of many agents, with its two products backward."""

    agents: int
    inputs: int
    outputs: int
    torch_us: float  # an agent's three products
    numpy_us: float
    ratio: Spread  # numpy's time to torch's


def measure_products(counts: Sequence[int], worlds: int, rounds: int) -> list[ProductRow]:
    """Maps of ``counts`` agents, each with ``worlds`` rows, in turns."""
    found = []
    for count in counts:
        for inputs, outputs in MAPS:
            x, weight = torch.randn(count, worlds, inputs), torch.randn(count, outputs, inputs)
            outer = torch.randn(count, worlds, outputs)
            pairs = [(x, weight.transpose(1, 2)), (outer, weight), (outer.transpose(1, 2), x)]
            turns = {
                "torch": lambda pairs=pairs: [torch.bmm(a, b) for a, b in pairs],
                "numpy": lambda pairs=pairs: [by_numpy(a, b) for a, b in pairs],
            }
            times = in_turns(turns, rounds, max(500 // count, 1))
            theirs, ours = (1e6 * Spread.of(times[name]).median / count for name in turns)
            spread = ratio(times["numpy"], times["torch"])
            found.append(ProductRow(count, inputs, outputs, theirs, ours, spread))
    return found
