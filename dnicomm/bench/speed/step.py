"""One decoupled step beside backpropagation, and each beside its floor.

A floor is the time of the arithmetic at the measured rate of matrix products, plus the time of the
optimiser's bytes (parameters, gradients and two moments read, all but gradients written) at the
measured bandwidth. Nothing else has to be done for a step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from dnicomm.bench.speed.measuring import Rates, Spread, in_turns, ratio
from dnicomm.core import (
    Adam,
    CriticUtility,
    DecoupledRNN,
    DecoupledSequential,
    GradientUtility,
    Interface,
    LayerAdam,
    LSTMCore,
    UtilityModel,
)

ADAM_BYTES = 28  # of a parameter: four numbers read, three written
Step = Callable[[], object]


@dataclass(frozen=True)
class Work:
    """What a step has to do: multiply-accumulates, and parameters to optimise."""

    macs: float
    parameters: float

    def seconds(self, rates: Rates) -> float:
        moved = ADAM_BYTES * self.parameters
        return rates.seconds(self.macs, moved, moved)


@dataclass(frozen=True)
class Layers:
    """A feed-forward net with an interface after every hidden layer.

    Args:
        inputs, width, outputs: units.
        hidden: hidden layers.
        batch: examples.
    """

    inputs: int = 784
    width: int = 256
    outputs: int = 10
    hidden: int = 4
    batch: int = 256

    @property
    def sizes(self) -> list[int]:
        return [self.inputs, *[self.width] * self.hidden, self.outputs]

    def net(self) -> list[nn.Module]:
        torch.manual_seed(0)
        sizes = self.sizes
        maps = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        return [*(nn.Sequential(layer, nn.ReLU()) for layer in maps[:-1]), maps[-1]]

    def data(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Inputs, labels, and labels one-hot."""
        random = torch.Generator().manual_seed(0)
        x = torch.randn(self.batch, self.inputs, generator=random)
        y = torch.randint(0, self.outputs, (self.batch,), generator=random)
        return x, y, F.one_hot(y, self.outputs).float()

    def backprop(
        self,
        optimizer: Callable[[Any], torch.optim.Optimizer],
        net: nn.Module | None = None,
    ) -> Step:
        """A step of backpropagation; ``net``: None: its own."""
        net, (x, y, _) = nn.Sequential(*self.net()) if net is None else net, self.data()
        adam = optimizer(net.parameters())

        def step() -> None:
            adam.zero_grad()
            F.cross_entropy(net(x), y).backward()
            adam.step()

        return step

    def decoupled(
        self,
        model: Callable[[], UtilityModel],
        labels: bool,
        layers: Sequence[nn.Module] | None = None,
    ) -> Step:
        """A step of the decoupled net; ``layers``: None: its own."""
        interfaces = [Interface(model(), Adam()) for _ in range(self.hidden)]
        net = DecoupledSequential(self.net() if layers is None else layers, interfaces)
        x, y, context = self.data()

        def loss(output: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(output, y, reduction="none")

        return lambda: net.update(x, loss, context if labels else None)

    def work(self) -> Work:
        """Of backpropagation: forward, weights, and inputs of all layers but the first."""
        pairs = list(itertools.pairwise(self.sizes))
        maps = sum(a * b for a, b in pairs)
        macs = 3 * maps - pairs[0][0] * pairs[0][1]
        return Work(self.batch * macs, maps + sum(b for _, b in pairs))

    def added(self, sizes: Sequence[int], inward: bool = False) -> Work:
        """What utility models of these sizes add: forward, weights, inputs of all but the first.

        Args:
            inward: whether the first one's inputs too, as a critic's synthetic gradient asks.
        """
        pairs = list(itertools.pairwise(sizes))
        maps = sum(a * b for a, b in pairs)
        macs = 3 * maps - (0 if inward else pairs[0][0] * pairs[0][1])
        parameters = maps + sum(b for _, b in pairs)
        return Work(self.hidden * self.batch * macs, self.hidden * parameters)


@dataclass(frozen=True)
class Boundary:
    """An LSTM that learns window by window, with and without an interface between them.

    Args:
        inputs, width: units; length: of a window; batch: sequences.
    """

    inputs: int = 32
    width: int = 128
    length: int = 8
    batch: int = 128

    def step(self, interface: bool) -> Step:
        """One window."""
        torch.manual_seed(0)
        core, size = LSTMCore(self.inputs, self.width), 2 * self.width
        adam = LayerAdam(core.parameters())
        boundary = Interface(GradientUtility(size), Adam()) if interface else None
        rnn = DecoupledRNN(core, boundary)
        xs = torch.randn(self.length, self.batch, self.inputs)
        rnn.start(torch.zeros(self.batch, size))

        def step() -> None:
            adam.zero_grad()
            outputs, window = rnn.window(xs)
            window.backward(outputs.square().mean(-1))
            adam.step()

        return step

    def work(self) -> Work:
        """Of truncated backpropagation: the state that a window starts from gets no gradient."""
        own, back = 4 * self.width * (self.inputs + self.width), 4 * self.width**2
        macs = self.length * 2 * own + (self.length - 1) * back
        return Work(self.batch * macs, own + 8 * self.width)

    def added(self) -> Work:
        """The gradient of that state, and the utility model's own."""
        size = 2 * self.width
        return Work(self.batch * (4 * self.width**2 + 2 * size * size), size * size + size)


@dataclass(frozen=True)
class StepRow:
    """One line of the table; ratios are to backpropagation with the same optimiser."""

    name: str
    milliseconds: float
    ratio: Spread
    to_torch: Spread | None  # to backpropagation with torch.optim.Adam as it comes
    macs_floor: float  # ratio of multiply-accumulates alone
    floor: float  # ratio of times of arithmetic and bytes
    own_floor_ms: float

    @property
    def over_floor(self) -> float:
        return self.ratio.median / self.floor


def measure_steps(rates: Rates, layers: Layers, boundary: Boundary, rounds: int) -> list[StepRow]:
    """Every kind of step in turns with backpropagation."""
    width, classes = layers.width, layers.outputs
    kinds: dict[str, tuple[Step, Work]] = {
        "linear": (
            layers.decoupled(lambda: GradientUtility(width), False),
            layers.added([width, width]),
        ),
        "linear, labels": (
            layers.decoupled(lambda: GradientUtility(width, classes), True),
            layers.added([width + classes, width]),
        ),
        "one hidden layer": (
            layers.decoupled(lambda: GradientUtility(width, hidden=[width]), False),
            layers.added([width, width, width]),
        ),
        "critic, labels": (
            layers.decoupled(lambda: CriticUtility(width, classes, classes), True),
            layers.added([width, classes], inward=True),
        ),
    }
    base, plain = "backpropagation", "backpropagation, torch.optim.Adam"
    steps: dict[str, Step] = {
        base: layers.backprop(LayerAdam),
        plain: layers.backprop(torch.optim.Adam),
        **{name: step for name, (step, _) in kinds.items()},
    }
    times = in_turns(steps, rounds, 4)
    work = layers.work()
    own = {base: work, plain: work} | {
        name: _sum(work, added) for name, (_, added) in kinds.items()
    }
    rows = [_row(name, times, own[name], base, plain, work, rates) for name in steps]
    without, with_one = "LSTM window, truncated", "LSTM window, interface at its end"
    windows = {without: boundary.step(False), with_one: boundary.step(True)}
    times, work = in_turns(windows, rounds, 4), boundary.work()
    both = {without: work, with_one: _sum(work, boundary.added())}
    return rows + [_row(name, times, both[name], without, None, work, rates) for name in windows]


def _sum(a: Work, b: Work) -> Work:
    return Work(a.macs + b.macs, a.parameters + b.parameters)


def _row(
    name: str,
    times: dict[str, list[float]],
    work: Work,
    base: str,
    plain: str | None,
    base_work: Work,
    rates: Rates,
) -> StepRow:
    own = work.seconds(rates)
    return StepRow(
        name,
        1e3 * Spread.of(times[name]).median,
        ratio(times[name], times[base]),
        None if plain is None else ratio(times[name], times[plain]),
        work.macs / base_work.macs,
        own / base_work.seconds(rates),
        1e3 * own,
    )
