"""The feed-forward nets of the paper, as lists of layers.

``layers`` counts hidden layers; the linear head comes on top. Sources read the paper's count
differently: some count the head in, so that its "3 layers" are two hidden ones here.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

KERNEL = 5  # of the convolutions, same padding (paper, appendix C.1)
SMALLEST = 2  # a map of this side is not pooled any further


def fcn(input_size: int, num_classes: int, layers: int, width: int) -> list[nn.Module]:
    """Linear, batch norm, ReLU, ``layers`` times, and a head: ``[B, D]`` to ``[B, classes]``."""
    sizes = [input_size, *[width] * layers]
    net: list[nn.Module] = [
        nn.Sequential(nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU())
        for a, b in itertools.pairwise(sizes)
    ]
    return [*net, nn.Linear(width, num_classes)]


def cnn(shape: tuple[int, int, int], num_classes: int, layers: int, width: int) -> list[nn.Module]:
    """Convolution, batch norm, ReLU, pooling, ``layers`` times, and a head.

    3×3 max-pooling after the first convolution, average pooling after the others (paper, appendix
    C.1, which does not give the stride: 2 here, until the map is 2×2). The head is a linear map of
    the flattened map: ``[B, C, H, W]`` to ``[B, classes]``.

    Args:
        shape: ``(C, H, W)`` of the images.
    """
    channels, height, wide = shape
    net: list[nn.Module] = []
    for number in range(layers):
        stride = 2 if min(height, wide) > SMALLEST else 1
        pool = (
            nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
            if number
            else nn.MaxPool2d(3, stride, padding=1)
        )
        convolution = nn.Conv2d(channels, width, KERNEL, padding="same", bias=False)
        net.append(nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(), pool))
        channels = width
        height, wide = (-(-side // stride) for side in (height, wide))
    net.append(nn.Sequential(nn.Flatten(), nn.Linear(width * height * wide, num_classes)))
    for layer in net:
        layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


@torch.no_grad()
def message_shapes(net: list[nn.Module], x: Tensor) -> list[tuple[int, ...]]:
    """Shape of what each layer but the last gives out for inputs ``[B, …]``, without B."""
    shapes = []
    for layer in net[:-1]:
        x = layer.eval()(x)
        shapes.append(tuple(x.shape[1:]))
        layer.train()
    return shapes
