"""What torch.compile is worth: the same things plain and compiled, in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor, nn
from torch._inductor import config as inductor

from dnicomm.bench.compiling import Counted, compile_layer
from dnicomm.bench.networks import fcn
from dnicomm.bench.speed.crowd import Crowd
from dnicomm.bench.speed.measuring import Spread, in_turns, ratio
from dnicomm.bench.speed.step import Layers
from dnicomm.core import GradientUtility, LayerAdam
from dnicomm.core.rows import Layout
from dnicomm.core.template import Template
from dnicomm.sim import Inbox

Step = Callable[[], object]


@dataclass(frozen=True)
class CompiledRow:
    """One line of the table."""

    name: str
    plain_ms: float
    compiled_ms: float
    ratio: Spread  # compiled to plain
    start: float  # seconds until the first compiled call is over
    graphs: int  # compiled so far, for this and the numbers of agents before


def measure_compiled(
    layers: Layers, crowd: Crowd, numbers: Sequence[int], rounds: int
) -> list[CompiledRow]:
    """Layers that learn together and apart; ticks of ``numbers`` of a crowd's agents.

    Every step computes forward, backward, and, of layers, the update.
    """
    with inductor.patch(force_disable_caches=True):  # or the first call would find what it makes
        return _layers(layers, rounds) + _agents(crowd, numbers, rounds)


def _layers(layers: Layers, rounds: int) -> list[CompiledRow]:
    found = [
        _row("backpropagation", lambda compiler: _backprop(layers, compiler), rounds),
        _row("decoupled, linear, labels", lambda compiler: _decoupled(layers, compiler), rounds),
    ]
    torch.compiler.reset()  # or numbers of agents would count as numbers of examples
    return found


def _row(name: str, make: Callable[[Counted | None], Step], rounds: int) -> CompiledRow:
    compiler = Counted()
    compiled, plain = make(compiler), make(None)
    before = perf_counter()
    compiled()
    start = perf_counter() - before
    return _compared(name, plain, compiled, rounds, start, compiler)


def _compared(
    name: str, plain: Step, compiled: Step, rounds: int, start: float, compiler: Counted
) -> CompiledRow:
    times = in_turns({"plain": plain, "compiled": compiled}, rounds, 4)
    return CompiledRow(
        name,
        1e3 * Spread.of(times["plain"]).median,
        1e3 * Spread.of(times["compiled"]).median,
        ratio(times["compiled"], times["plain"]),
        start,
        compiler.count,
    )


def _net(layers: Layers) -> list[nn.Module]:
    """Layers as the experiments have them; without batch norm they learn apart by formula."""
    torch.manual_seed(0)
    return fcn(layers.inputs, layers.outputs, layers.hidden, layers.width)


def _backprop(layers: Layers, compiler: Counted | None) -> Step:
    net = nn.Sequential(*_net(layers))
    if compiler is not None:
        compile_layer(net, backend=compiler)  # as what learns together is in the experiments
    return layers.backprop(LayerAdam, net)


def _decoupled(layers: Layers, compiler: Counted | None) -> Step:
    net = _net(layers)
    for layer in net if compiler is not None else ():
        compile_layer(layer, backend=compiler)
    return layers.decoupled(lambda: GradientUtility(layers.width, layers.outputs), True, net)


def _agents(crowd: Crowd, numbers: Sequence[int], rounds: int) -> list[CompiledRow]:
    """Ticks with their backward pass, of one compiled function for any number of agents."""
    (population,) = crowd.simulation().populations
    spec, worlds = population.spec, crowd.num_worlds
    template = Template(population.agents.template)
    layout = Layout([parameter.shape for parameter in population.agents.template.parameters()])
    assert template.stacks

    def tick(values: list[Tensor], seen: Tensor, inbox: Inbox, state: Tensor) -> list[Tensor]:
        output = template.call_stacked(values, "tick", (seen, inbox, state))
        return [output.action, output.message]

    def step(function: Callable[..., list[Tensor]], number: int) -> Step:
        rows = population.agents.parameters[:number].clone()
        values = [value.requires_grad_() for value in layout.views(rows)]
        shape = (number, worlds, spec.num_inputs)
        messages = torch.randn(*shape, spec.message_size, requires_grad=True)
        inbox = Inbox(messages, torch.rand(shape) < 0.8, torch.ones(shape))
        seen = torch.randn(number, worlds, *spec.observation_shape)
        state = torch.randn(number, worlds, crowd.width)

        def run() -> None:
            outputs = function(values, seen, inbox, state)
            torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
            for leaf in (messages, *values):
                leaf.grad = None

        return run

    compiler = Counted()
    compiled = torch.compile(tick, dynamic=True, backend=compiler)
    found = []
    for number in numbers:
        fast = step(compiled, number)
        before = perf_counter()
        fast()
        start = perf_counter() - before
        name = f"ticks of {number} agents"
        found.append(_compared(name, step(tick, number), fast, rounds, start, compiler))
    return found
