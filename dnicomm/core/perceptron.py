"""Perceptrons without autograd: passes forward and backward, one net or many side by side.

Shapes: inputs ``[E, B, inputs]`` of E nets with parameters ``[E, P]``, or ``[B, inputs]`` of one
with parameters ``[P]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from dnicomm.core.products import product
from dnicomm.core.rows import Layout

Maps = list[tuple[Tensor, Tensor]]  # weight [(E,) outputs, inputs] and bias [(E,) outputs] by layer


class Perceptron:
    """Linear maps with ReLU between.

    Args:
        layers: one such net; what stands between its linear maps is taken to be ReLU.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        maps = [layer for layer in layers if isinstance(layer, nn.Linear)]
        self.layout = Layout([p.shape for layer in maps for p in (layer.weight, layer.bias)])

    def maps(self, parameters: Tensor) -> Maps:
        """Views of parameters ``[E, P]`` or ``[P]`` as layers."""
        views = self.layout.views(parameters)
        return list(zip(views[::2], views[1::2], strict=True))

    def forward(self, maps: Maps, x: Tensor) -> list[Tensor]:
        """What each layer is given, ``[(E,) B, inputs]``, and at last the output."""
        passed = [x]
        for weight, bias in maps:
            if len(passed) > 1:
                x.relu_()
            x = product(x, weight.mT, bias)
            passed.append(x)
        return passed

    def inward(self, maps: Maps, passed: Sequence[Tensor], outer: Tensor) -> list[Tensor]:
        """Gradient with respect to each layer's output, first to last, from that of the last."""
        found = [outer]
        for (weight, _), given in zip(maps[:0:-1], passed[-2:0:-1], strict=True):
            outer = torch.ops.aten.threshold_backward(product(outer, weight), given, 0)
            found.append(outer)
        return found[::-1]

    def parameter_gradient(
        self, passed: Sequence[Tensor], deltas: Sequence[Tensor]
    ) -> list[Tensor]:
        """Gradient ``[E, p]`` of each parameter, from that of each layer's output."""
        parts = []
        for given, delta in zip(passed[:-1], deltas, strict=True):
            parts += [product(delta.transpose(1, 2), given).flatten(1), delta.sum(1)]
        return parts

    def put_gradient(
        self, found: Maps, passed: Sequence[Tensor], deltas: Sequence[Tensor], factor: float
    ) -> None:
        """The same of one net, times ``factor``, straight into views of a gradient ``[P]``."""
        for (weight, bias), given, delta in zip(found, passed[:-1], deltas, strict=True):
            torch.addmm(weight, delta.t(), given, beta=0, alpha=factor, out=weight)
            torch.sum(delta, 0, out=bias).mul_(factor)


class PerceptronLayer:
    """A layer of ordinary modules that is a perceptron: what autograd would do, without it.

    Args:
        layer: a linear map, or a sequence of linear maps and ReLUs in turn.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.modules = list(layer.modules())
        self.maps = [module for module in self.modules if isinstance(module, nn.Linear)]
        self.rectified = isinstance(self.modules[-1], nn.ReLU)
        self.perceptron = Perceptron(self.maps)

    @staticmethod
    def of(layer: nn.Module) -> PerceptronLayer | None:
        """``layer`` as a perceptron; None: it is something else."""
        parts = list(layer) if type(layer) is nn.Sequential else [layer]
        kinds = [nn.Linear, nn.ReLU] * len(parts)
        if [type(part) for part in parts] != kinds[: len(parts)]:
            return None
        if any(isinstance(part, nn.Linear) and part.bias is None for part in parts):
            return None
        return PerceptronLayer(layer)

    def takes(self, x: Tensor) -> bool:
        """Whether nothing is asked for ``x`` that only autograd does."""
        weight = self.maps[0].weight
        plain = x.dim() == 2 and x.dtype == weight.dtype and x.device.type == "cpu"
        return plain and not torch.is_autocast_enabled("cpu") and not self._watched()

    def _watched(self) -> bool:
        for module in self.modules:
            if module._forward_hooks or module._forward_pre_hooks:
                return True
            if module._backward_hooks or module._backward_pre_hooks:
                return True
        return not all(m.weight.requires_grad and m.bias.requires_grad for m in self.maps)

    @torch.no_grad()
    def forward(self, x: Tensor) -> list[Tensor]:
        """What each map is given, and at last the layer's output ``[B, outputs]``."""
        passed = self.perceptron.forward([(m.weight, m.bias) for m in self.maps], x)
        if self.rectified:
            passed[-1].relu_()
        return passed

    @torch.no_grad()
    def backward(self, passed: Sequence[Tensor], outer: Tensor, inward: bool) -> Tensor | None:
        """Gradients of the parameters into their ``.grad``; that of the input if ``inward``."""
        maps: Maps = [(m.weight, m.bias) for m in self.maps]
        if self.rectified:
            outer = torch.ops.aten.threshold_backward(outer, passed[-1], 0)
        deltas = self.perceptron.inward(maps, passed, outer)
        for (weight, bias), given, delta in zip(maps, passed[:-1], deltas, strict=True):
            weight.grad, bias.grad = torch.mm(delta.t(), given), delta.sum(0)
        return torch.mm(deltas[0], maps[0][0]) if inward else None
