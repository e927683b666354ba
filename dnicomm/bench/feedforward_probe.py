"""How good synthetic gradients are: compared with the true ones of one fixed batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dnicomm.core import DecoupledSequential, Interface


@contextmanager
def statistics_kept(net: nn.Module) -> Iterator[None]:
    """Run ``net`` as in training, and leave its running statistics as they were."""
    buffers = list(net.buffers())
    kept = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, kept, strict=True):
                buffer.copy_(value)


def true_gradients(
    net: DecoupledSequential, x: Tensor, loss: Callable[[Tensor], Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """What each layer but the last gives out, and each example's gradient of its loss there.

    One backward pass through the whole net, in training mode, without a trace: neither
    ``.grad`` nor running statistics change.
    """
    messages: list[Tensor] = []
    with statistics_kept(net):
        h = x
        for layer in net.layers[:-1]:
            h = layer(h)
            messages.append(h)
        total = loss(net.layers[-1](h)).sum()
        gradients = torch.autograd.grad(total, messages)
    return [m.detach() for m in messages], list(gradients)


def compare(
    interfaces: Sequence[Interface | None],
    messages: Sequence[Tensor],
    gradients: Sequence[Tensor],
    context: Tensor,
) -> dict[str, float]:
    """Mean cosine, relative error and ratio of norms, over interfaces and of each.

    Errors and norms are ratios of sums over the batch, so that a gradient that is a rounding error
    does not count for all the others. What is injected is compared, scale and all.
    """
    each = []
    for interface, message, true in zip(interfaces, messages, gradients, strict=True):
        if interface is None:
            continue
        seen = context[:, : interface.context_size]
        said = interface.estimate(message[None], seen[None]).gradient[0]
        said = (said * interface.gradient_scale).flatten(1).double()
        true = true.flatten(1).double()
        norm = torch.linalg.vector_norm(true, dim=1)
        size = torch.linalg.vector_norm(said, dim=1)
        error = torch.linalg.vector_norm(said - true, dim=1)
        tiny = torch.finfo(torch.double).tiny
        cosine = (said * true).sum(1) / (norm * size).clamp(min=tiny)
        total = norm.sum().clamp(min=tiny)
        each.append(torch.stack([cosine.mean(), error.sum() / total, size.sum() / total]))
    names = ("cosine", "relative_error", "norm_ratio")
    if not each:
        return {}
    table = torch.stack(each).tolist()  # [interfaces, 3]
    metrics = {name: sum(row[i] for row in table) / len(table) for i, name in enumerate(names)}
    for number, row in enumerate(table, start=1):
        metrics |= {f"{name}_{number}": value for name, value in zip(names, row, strict=True)}
    return metrics
