"""A feed-forward net whose layers learn apart: an interface after every layer but the last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dnicomm.core.interface import Interface, Message
from dnicomm.core.layer_adam import LayerAdam
from dnicomm.core.perceptron import PerceptronLayer
from dnicomm.core.window import Window


@dataclass
class LayerPass:
    """What one layer did with a batch, until it has learnt from it."""

    number: int
    given: Tensor  # [B, …] its input; its .grad becomes the target of the message it read
    output: Tensor  # [B, …] in the layer's graph; the losses [B] of the last layer
    received: Message | None  # the message that stands behind its input
    sent: Message | None
    window: Window
    passed: list[Tensor] | None = None  # through a perceptron; None: autograd has recorded it
    injected: Tensor | None = None  # [B, …] and what its output was told

    @property
    def cost(self) -> Tensor:
        """The layer's own loss ``[B]`` in the critic's view: the value of what it sent."""
        return self.output.detach() if self.sent is None else self.sent.value


class DecoupledSequential(nn.Module):
    """Layers that update as soon as they have run (paper, section 2.1 and figure 2).

    Layer i gets its gradient from the utility model of layer i + 1, whose target comes from what
    layer i + 1 was told in turn: true gradient information percolates down from the loss. Two
    ways to bring it down faster, both from 0 (plain) to 1:

    - ``mixing`` λ, BP(λ) (paper, appendix A): layer i learns from λ of the gradient that came
      through layer i + 1 and 1 - λ of the synthetic one. 1 is backpropagation. Layers wait.
    - ``returns`` λ: layers learn from synthetic gradients alone, and no layer waits for another;
      but utility models learn from λ-returns, the same mixture carried down the chain once the
      batch has gone through. 1: from true gradients. A second pass through each layer.

    Frozen parameters (``requires_grad=False``, at any time) are not stepped, and a layer of nothing
    else hands gradients down all the same.

    Args:
        layers: the modules, first to last; the last one's output goes to the loss.
        interfaces: one between each two layers; None: cut there, and no feedback at all.
        optimizer: builds an optimiser from a layer's parameters, one a layer.
        mixing: share of the gradient from above in what a layer learns from.
        returns: share of the gradient from above in what is carried to utility models.

    Raises:
        ValueError: if there is not one interface fewer than layers, if a share is not in 0 to 1,
            or both are above 0, or one of them is and there is no interface somewhere.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        interfaces: Sequence[Interface | None],
        optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] = LayerAdam,
        mixing: float = 0.0,
        returns: float = 0.0,
    ) -> None:
        super().__init__()
        if len(interfaces) != len(layers) - 1:
            raise ValueError(
                f"{len(layers)} layers need {len(layers) - 1} interfaces, got {len(interfaces)}"
            )
        if not (0 <= mixing <= 1 and 0 <= returns <= 1):
            raise ValueError(f"mixing={mixing}, returns={returns}: each is 0 to 1")
        if mixing and returns:
            raise ValueError("mixing and returns: mixed gradients are returns already, choose one")
        if (mixing or returns) and None in interfaces:
            raise ValueError("mixing and returns carry gradients through: no interface may be None")
        self.layers = nn.ModuleList(layers)
        self.interfaces = list(interfaces)
        self.mixing = mixing
        self.returns = returns
        self._of_layer = [list(layer.parameters()) for layer in layers]
        self.optimizers = [optimizer(p) if p else None for p in self._of_layer]
        self._perceptrons = [PerceptronLayer.of(layer) for layer in layers]

    def forward(self, x: Tensor) -> Tensor:
        """The ordinary chained forward pass, ``[B, …]`` to ``[B, …]``."""
        for layer in self.layers:
            x = layer(x)
        return x

    def update(
        self,
        x: Tensor,
        loss: Callable[[Tensor], Tensor],
        context: Tensor | None = None,
        order: Sequence[int] | None = None,
    ) -> Tensor:
        """One decoupled step of the layers on one batch.

        Args:
            x: input ``[B, …]``.
            loss: the last layer's output to a loss of each example, ``[B]``.
            context: ``[B, C]`` for every utility model.
            order: numbers of the layers that learn from this batch, in this order, once all have
                run (paper, section 3.1: updates at random times); None: all, each as soon as it
                has run. A layer that does not learn runs without a graph and settles nothing.

        Returns:
            The loss of each example, ``[B]``.

        Raises:
            ValueError: if ``order`` names a layer twice or one that is not there, or if it is
                given where gradients are carried from layer to layer.
        """
        carries = bool(self.mixing or self.returns)
        if order is not None:
            self._check(order, carries)
        passes: list[LayerPass] = []
        given, received = x, None
        for number in range(len(self.layers)):
            done = self._run(number, given, received, loss, context, order)
            if order is None and not carries:
                self._learn(done)
            else:
                passes.append(done)
            if number < len(self.interfaces):
                given, received = self._pass_on(done, x, order), done.sent
        if carries:
            self._carry(passes)
        for number in order or ():
            self._learn(passes[number])
        return done.output.detach()

    def _check(self, order: Sequence[int], carries: bool) -> None:
        if carries:
            raise ValueError("order: layers that carry gradients down cannot learn apart")
        if len(set(order)) != len(order) or not set(order) <= set(range(len(self.layers))):
            raise ValueError(f"order={list(order)}: each of 0 to {len(self.layers) - 1} once")

    def _learns(self, number: int, order: Sequence[int] | None) -> bool:
        fed_back = number == len(self.interfaces) or self.interfaces[number] is not None
        return fed_back and (order is None or number in order)

    def _run(
        self,
        number: int,
        given: Tensor,
        received: Message | None,
        loss: Callable[[Tensor], Tensor],
        context: Tensor | None,
        order: Sequence[int] | None,
    ) -> LayerPass:
        """The layer's forward pass, and what it is told at once."""
        learns, window = self._learns(number, order), Window()
        perceptron = self._by_formula(number, given, order)
        passed, sent, injected = None, None, None
        if perceptron is not None:
            passed = perceptron.forward(given.detach())
            output = passed[-1]
        else:
            with torch.set_grad_enabled(learns):
                output = self.layers[number](given)
        if number == len(self.interfaces):
            leaf = output if perceptron is None else output.requires_grad_()
            with torch.set_grad_enabled(learns):
                output = loss(leaf)
            each = torch.full_like(output, 1 / len(output))
            if perceptron is None:
                window.add_output(output, each)
            else:
                (injected,) = torch.autograd.grad(output, leaf, each)
        elif learns or self._learns(number + 1, order):  # somebody asks, or somebody will answer
            interface = self.interfaces[number]
            if interface is not None:
                sent = interface.send(output, context, window)
                injected = sent.injected if perceptron is not None else None
        return LayerPass(number, given, output, received, sent, window, passed, injected)

    def _by_formula(
        self, number: int, given: Tensor, order: Sequence[int] | None
    ) -> PerceptronLayer | None:
        """The layer as a perceptron, where it learns at once and needs no autograd for it."""
        perceptron = self._perceptrons[number]
        if perceptron is None or order is not None or self.mixing or self.returns:
            return None
        return perceptron if self._learns(number, None) and perceptron.takes(given) else None

    def _pass_on(self, done: LayerPass, x: Tensor, order: Sequence[int] | None) -> Tensor:
        """The next layer's input."""
        return done.output.detach() if done.sent is None else done.sent.tensor

    def _learn(self, done: LayerPass) -> None:
        """The layer's backward pass and step; the message that it read is settled."""
        if not len(done.window) and done.injected is None:  # nobody told it anything
            return
        optimizer = self.optimizers[done.number]
        for parameter in self._of_layer[done.number]:
            parameter.grad = None
        perceptron = self._perceptrons[done.number]
        if done.passed is not None and done.injected is not None and perceptron is not None:
            target = perceptron.backward(done.passed, done.injected, done.received is not None)
        else:
            done.window.backward()
            target = done.given.grad
        if done.received is not None:
            done.received.settle(loss=done.cost, target=target)
        if optimizer is not None:
            optimizer.step()

    def _carry(self, passes: list[LayerPass]) -> None:
        """From the loss down: every layer's gradient and its utility model's target; then steps."""
        for parameters in self._of_layer:
            for parameter in parameters:
                parameter.grad = None
        share = self.mixing or self.returns
        above, cost = None, passes[-1].cost  # gradient of the message, value from above
        for done in reversed(passes):
            if done.sent is None or above is None:
                injected = carried = torch.full_like(done.output, 1 / len(done.output))
            else:
                injected = done.sent.injected
                carried = share * above + (1 - share) * injected
                cost = share * cost + (1 - share) * done.sent.value
            above = self._through(done, carried if self.mixing else injected, carried)
            if done.received is not None:
                done.received.settle(loss=cost, target=above)
        for optimizer in self.optimizers:
            if optimizer is not None:
                optimizer.step()

    def _through(self, done: LayerPass, injected: Tensor, carried: Tensor) -> Tensor | None:
        """``injected`` into the layer's parameters, ``carried`` to its input, returned."""
        if not done.output.requires_grad:  # a frozen layer, and nobody below it
            return None
        parameters = [p for p in self.layers[done.number].parameters() if p.requires_grad]
        if injected is carried or done.received is None:
            torch.autograd.backward(done.output, injected)
            return done.given.grad
        if parameters:
            torch.autograd.backward(done.output, injected, inputs=parameters, retain_graph=True)
        return torch.autograd.grad(done.output, done.given, carried)[0]


def group(layers: Sequence[nn.Module], positions: Sequence[int]) -> list[nn.Module]:
    """Layers joined where no interface is to be: one module for each stretch between interfaces.

    Args:
        positions: layers that an interface follows, counted from 1, in rising order.

    Raises:
        ValueError: if they do not rise or one is not in 1 to ``len(layers) - 1``.
    """
    ends = [*positions, len(layers)]
    if sorted(set(ends)) != ends or ends[0] < 1:
        raise ValueError(f"positions={list(positions)}: rising numbers of 1 to {len(layers) - 1}")
    starts = [0, *positions]
    return [nn.Sequential(*layers[a:b]) for a, b in zip(starts, ends, strict=True)]
