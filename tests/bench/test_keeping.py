"""Optimisers as named tensors: what comes back goes on bit for bit, however it is laid out."""

import pytest
import torch
from torch import nn

from dnicomm.bench.keeping import load_module, load_optimizer, module_tensors, optimizer_tensors


def _step(net, optimizer, seed):
    xs = torch.randn(8, 5, 6, 6, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    net(xs).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_restored_optimiser_takes_the_same_steps(layout):
    def made():
        torch.manual_seed(0)
        net = nn.Conv2d(5, 7, 3)
        net.weight.data = net.weight.data.to(memory_format=layout)
        return net, torch.optim.Adam(net.parameters(), lr=0.01)

    net, optimizer = made()
    for seed in range(3):
        _step(net, optimizer, seed)
    kept = module_tensors("net", net) | optimizer_tensors("optimizer", optimizer)
    kept = {  # as a checkpoint keeps them
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in kept.items()
    }
    again, other = made()
    load_module("net", again, kept)
    load_optimizer("optimizer", other, kept)
    for seed in range(3, 6):
        _step(net, optimizer, seed)
        _step(again, other, seed)
    for name, value in optimizer_tensors("optimizer", optimizer).items():
        assert torch.equal(value, optimizer_tensors("optimizer", other)[name]), name
        assert value.stride() == optimizer_tensors("optimizer", other)[name].stride(), name
    assert torch.equal(net.weight, again.weight)
