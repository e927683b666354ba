"""What the machine computes under autocast: asked once, and the LSTM falls back where it can't."""

import pytest
import torch
from torch import nn

from dnicomm.core import LSTMCore, capabilities, recurrent
from dnicomm.core.capabilities import LAYERS, supports_autocast

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _asked_anew():
    supports_autocast.cache_clear()
    yield
    supports_autocast.cache_clear()


def with_layer(monkeypatch, forward):
    """A layer ``odd`` among those that can be asked for, and how often it was built."""
    built = []

    class Odd(nn.Linear):
        def forward(self, x):
            return forward(super().forward(x))

    def build():
        built.append(1)
        return Odd(8, 8)

    monkeypatch.setattr(capabilities, "LAYERS", {"odd": (build, (2, 8))})
    return built


def test_it_is_asked_once(monkeypatch):
    built = with_layer(monkeypatch, lambda y: y)
    assert [supports_autocast("odd", CPU) for _ in range(3)] == [True] * 3
    assert built == [1]
    assert supports_autocast("odd", CPU, torch.float16)  # another question
    assert built == [1, 1]


class FailsBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("could not create a primitive descriptor")


def test_a_layer_that_only_runs_forward_is_not_supported(monkeypatch):
    with_layer(monkeypatch, FailsBackward.apply)
    assert not supports_autocast("odd", CPU)


def test_no_memory_is_no_answer(monkeypatch):
    def full(y):
        raise torch.OutOfMemoryError("no memory")

    built = with_layer(monkeypatch, full)
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            supports_autocast("odd", CPU)
    assert built == [1, 1]  # asked again


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("within", [torch.no_grad, torch.inference_mode], ids=["no_grad", "infer"])
def test_asking_changes_nothing(layer, within, device):
    """Neither random numbers nor modes; and the answer doesn't depend on who asks."""
    answer = supports_autocast(layer, device)
    supports_autocast.cache_clear()
    before = torch.get_rng_state()
    with within(), torch.autocast(device.type, torch.bfloat16):
        assert supports_autocast(layer, device) == answer
        assert torch.is_autocast_enabled(device.type)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_an_lstm_learns_under_autocast_on_any_machine(dtype, device):
    core = LSTMCore(3, 4).to(device)
    xs = torch.randn(5, 2, 3, device=device)
    state = torch.randn(2, 8, device=device).requires_grad_()
    with torch.autocast(device.type, dtype):
        outputs, after = core(xs, state)
        (outputs.float().sum() + after.sum()).backward()
    supported = supports_autocast("lstm", device, dtype)
    assert outputs.dtype == (dtype if supported else torch.float32)
    assert after.dtype == state.dtype
    for tensor in (state, *core.parameters()):
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("own", [torch.float32, torch.float64], ids=str)
def test_where_there_is_no_lstm_it_computes_as_without_autocast(own, device, monkeypatch):
    """Bit for bit: the same call with the same values; an input in bfloat16 is cast back."""
    monkeypatch.setattr(recurrent, "supports_autocast", lambda *asked: False)
    core = LSTMCore(3, 4).to(device, own)
    xs = torch.randn(5, 2, 3, device=device).to(torch.bfloat16)
    state = torch.randn(2, 8, device=device, dtype=own)
    want = core(xs.to(own), state)
    with torch.autocast(device.type, torch.bfloat16):
        got = core(xs, state)
        assert torch.is_autocast_enabled(device.type)
    for a, b in zip(want, got, strict=True):
        assert a.dtype == b.dtype == own
        assert torch.equal(a, b)
