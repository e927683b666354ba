"""What a step costs: live bytes are those of tensors that live at the same time."""

import torch

from dnicomm.bench.cost import LiveBytes


def test_live_bytes_count_what_lives_at_the_same_time():
    with LiveBytes() as made:
        a = torch.zeros(1000)  # 4,000 bytes
        view = a.view(10, 100)  # none
        a.add_(1)  # none
        for _ in range(3):
            b = torch.ones(500)  # 2,000 bytes; two of them for a moment
            del b
        del view
    assert made.peak == 6000
    with LiveBytes() as made:
        for _ in range(5):
            alone = torch.zeros(1000)
            del alone
    assert made.peak == 4000


def test_live_bytes_count_what_a_graph_keeps():
    """Squares of squares: each one's input is kept for the backward pass."""

    def depth(n, keep):
        x = torch.ones(1000, requires_grad=keep)
        with LiveBytes() as made:
            for _ in range(n):
                x = x * x
        return made.peak

    assert depth(8, keep=True) >= 8 * 4000
    assert depth(8, keep=False) == 2 * 4000


def test_live_bytes_are_counted_below_function_transforms():
    def total(x):
        return (x * x).sum()

    with LiveBytes() as made:
        torch.func.vmap(torch.func.grad(total))(torch.ones(4, 1000))
    assert made.peak >= 2 * 16000
