"""Adam for a layer that steps alone: one kernel, and next to nothing around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from dnicomm.core.in_place import fused_adam


class LayerAdam(torch.optim.Adam):
    """``torch.optim.Adam`` whose step on the CPU is a call of its fused kernel.

    A decoupled net steps each layer by itself, and then what torch does around a step (hooks, the
    choice of an implementation, grouping) costs as much as the step. State, groups and checkpoints
    are torch's; hooks on a step are not called.

    Args:
        parameters: to optimise; dense, real, in one group or several.
        lr, betas, eps: as of ``torch.optim.Adam``.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, lr=lr, betas=betas, eps=eps, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            states = [self.state[p] for p in parameters]
            for parameter, state in zip(parameters, states, strict=True):
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            fused_adam(
                parameters,
                [p.grad for p in parameters if p.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                steps,
                group["lr"],
                group["betas"],
                group["eps"],
            )
        return loss

    step.hooked = True  # type: ignore[attr-defined]  # else torch wraps it in a profiler's range
