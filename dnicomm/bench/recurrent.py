"""A recurrent net that learns window by window: shared by the copy tasks and language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dnicomm.bench.checks import choice, flag, just, number, sizes, whole
from dnicomm.bench.keeping import load_module, load_optimizer, module_tensors, optimizer_tensors
from dnicomm.bench.precision import plan_autocast
from dnicomm.core import (
    Adam,
    CriticUtility,
    DecoupledRNN,
    FutureGradients,
    GradientUtility,
    Interface,
    LambdaReturns,
    LocalOutcomeUtility,
    LSTMCore,
    OutcomeUtility,
    UtilityModel,
)
from dnicomm.errors import UserError
from dnicomm.sim.random import torch_seed

UTILITIES = ("none", "gradient", "critic", "outcome", "local_outcome")
CONTEXTS = ("none", "hindsight")
METHOD_KEYS = (
    "name", "utility", "context", "hidden", "horizon", "lr", "gradient_scale", "auxiliary",
    "returns", "returns_windows",
)  # fmt: skip


def truncated(method: Mapping[str, Any]) -> dict[str, Any]:
    """The method that differs from ``method`` in having no synthetic gradient: plain BPTT."""
    nothing = {"utility": "none", "context": "none", "auxiliary": False, "returns": 0.0}
    return {**method, "name": "bptt", **nothing}


def check_training(width: int, lr: float, clip: float | None) -> None:
    """The ranges of what every recurrent experiment has, before its data is loaded.

    Raises:
        UserError: if one is not allowed.
    """
    whole("width", width, 1)
    number("lr", lr, above=0.0)
    if clip is not None:
        number("clip", clip, above=0.0)


class RecurrentLearner:
    """An LSTM with a readout, its interface and its optimisers.

    Args:
        input_size: I.
        num_classes: C.
        width: H of the LSTM.
        window: T, steps between updates.
        method: how it learns; ``utility: none`` is truncated backpropagation through time.
        lr: of Adam.
        clip: largest norm of the gradient; None: no clipping.
        autocast: compute in bfloat16 where that is safe, and the device has it.
        seed: of the parameters.
        device: where everything lives.

    Attributes:
        fallbacks: as :attr:`dnicomm.bench.Experiment.fallbacks`.

    Raises:
        UserError: if a value is out of range.
    """

    def __init__(
        self,
        input_size: int,
        num_classes: int,
        width: int,
        window: int,
        method: Mapping[str, Any],
        lr: float,
        clip: float | None,
        autocast: bool,
        seed: int,
        device: torch.device,
    ) -> None:
        self.num_classes, self.clip, self.device = num_classes, clip, device
        layers = ("lstm", "linear")
        self.autocast, self.fallbacks = plan_autocast(flag("autocast", autocast), layers, device)
        self.horizon = _check(method, window)
        self.hindsight = method["context"] == "hindsight"
        with torch_seed(seed, "net"):
            self.core = LSTMCore(input_size, width).to(device)
            self.head = nn.Linear(width, num_classes).to(device)
        with torch_seed(seed, "utility"):
            utility = self._utility(method, self.core.state_size)
            task = FutureGradients(width, self.core.state_size) if method["auxiliary"] else None
        self.interface = None
        if utility is not None:
            scale = method["gradient_scale"]
            self.interface = Interface(utility, Adam(method["lr"]), scale).to(device)
        self.auxiliary = None if task is None else task.to(device)
        self.rnn = DecoupledRNN(self.core, self.interface, self.auxiliary)
        self.returns = None
        if method["returns"] and self.interface is not None:
            self.returns = LambdaReturns(
                self.core, self.interface, self._losses, method["returns"],
                method["returns_windows"],
            )  # fmt: skip
        modules = [self.core, self.head, *([self.auxiliary] if self.auxiliary else [])]
        self.modules = nn.ModuleList(modules)
        self.optimizer = torch.optim.Adam(self.modules.parameters(), lr=lr, fused=True)

    def _utility(self, method: Mapping[str, Any], size: int) -> UtilityModel | None:
        kind, hidden = method["utility"], list(method["hidden"])
        context = self.horizon * self.num_classes if self.hindsight else 0
        if kind == "gradient":
            return GradientUtility(size, context, hidden)
        if kind == "critic":
            return CriticUtility(size, context, hidden=hidden)
        if kind == "outcome":
            return OutcomeUtility(size, self.num_classes, self.horizon, hidden)
        if kind == "local_outcome":
            return LocalOutcomeUtility(size, self.num_classes, self.horizon, hidden)
        return None

    # -- learning -----------------------------------------------------------------------------

    def start(self, batch: int) -> None:
        """Begin sequences, ``batch`` of them, from a state of zeros."""
        self.rnn.start(torch.zeros(batch, self.core.state_size, device=self.device))

    def learn(self, xs: Tensor, targets: Tensor, future: Tensor, last: bool) -> Tensor:
        """One window: forward, backward, one step; its losses ``[T, B]`` in nats.

        Args:
            xs: ``[T, B, I]``.
            targets: ``[T, B]`` int64, -1 where nothing is asked.
            future: ``[F, B]`` targets of the steps after it, as many as there are up to the
                horizon; utility models with hindsight context see them.
            last: whether the sequences end with it.
        """
        with self._cast():
            outputs, window = self.rnn.window(xs, self._context(future), last)
            logits = self.head(outputs).float()  # [T, B, C]
        losses = _cross_entropy(logits, targets)
        self.optimizer.zero_grad()
        outcomes = None
        if self.interface is not None and self.interface.needs_outcome:
            asked = (targets >= 0).unsqueeze(-1)
            outcomes = logits.detach().softmax(-1) * asked
        window.backward(losses, outcomes, settle=self.returns is None)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.modules.parameters(), self.clip)
        self.optimizer.step()
        if self.returns is not None:
            self.returns.add(window, xs, targets)
        return losses.detach()

    def _cast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast)

    def _losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return _cross_entropy(self.head(outputs.to(self.head.weight.dtype)), targets)

    def _context(self, future: Tensor) -> Tensor | None:
        """One-hot labels of the next W steps, ``[B, W·C]``; None where the model sees none."""
        if not self.hindsight:
            return None
        labels = F.pad(future, (0, 0, 0, self.horizon - len(future)), value=-1)  # [W, B]
        known = F.one_hot(labels + 1, self.num_classes + 1)[..., 1:]  # none: all zero
        return known.transpose(0, 1).flatten(1).float()

    # -- looking ------------------------------------------------------------------------------

    @torch.no_grad()
    def losses(
        self, xs: Tensor, targets: Tensor, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Losses ``[T, B]`` without learning, and the state after them."""
        if state is None:
            state = torch.zeros(xs.shape[1], self.core.state_size, device=self.device)
        outputs, state = self.core(xs, state)
        return self._losses(outputs, targets), state

    def foresight(
        self, xs: Tensor, targets: Tensor, boundaries: list[int], state: Tensor | None = None
    ) -> dict[str, float]:
        """How synthetic gradients at ``boundaries`` (steps) compare with the true ones.

        The truth is full backpropagation through time over ``xs`` ``[L, B, I]``.
        """
        if self.interface is None or not boundaries:
            return {}
        if state is None:
            state = torch.zeros(xs.shape[1], self.core.state_size, device=self.device)
        states, losses, begins = [], [], [0, *boundaries]
        for begin, end in zip(begins, [*boundaries, len(xs)], strict=True):
            if begin:
                states.append(state)
            outputs, state = self.core(xs[begin:end], state)
            losses.append(self._losses(outputs, targets[begin:end]).sum())
        found = torch.stack(torch.autograd.grad(torch.stack(losses).sum(), states))  # [K, B, S]
        contexts = [self._context(targets[b : b + self.horizon]) for b in boundaries]
        guesses = []
        for sent, context in zip(states, contexts, strict=True):
            seen = sent.new_zeros(len(sent), 0) if context is None else context
            guesses.append(self.interface.estimate(sent.detach()[None], seen[None]).gradient[0])
        guess = torch.stack(guesses)
        return {
            "cosine": F.cosine_similarity(guess, found, dim=-1).mean().item(),
            "norm_ratio": (guess.norm() / found.norm().clamp(min=1e-12)).item(),
        }

    # -- keeping ------------------------------------------------------------------------------

    def moving(self) -> dict[str, Tensor]:
        """Every parameter that has to move, by name."""
        found: dict[str, Tensor] = dict(self.modules.named_parameters())
        if self.interface is not None:
            found["utility"] = self.interface.utilities.parameters
        return found

    def tensors(self) -> dict[str, Tensor]:
        kept = module_tensors("net", self.modules) | optimizer_tensors("adam", self.optimizer)
        kept |= {f"rnn.{name}": value for name, value in self.rnn.tensors().items()}
        if self.interface is not None:
            utilities = self.interface.utilities.tensors()
            kept |= {f"utility.{name}": value for name, value in utilities.items()}
        if self.returns is not None:
            kept |= {f"returns.{name}": value for name, value in self.returns.tensors().items()}
        return kept

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the values of :meth:`tensors` back.

        Raises:
            UserError: if they do not fit.
        """
        load_module("net", self.modules, tensors)
        load_optimizer("adam", self.optimizer, tensors)
        if self.interface is not None:
            self.interface.utilities.load(_below("utility", tensors, self.device))
        self.rnn.restore(_below("rnn", tensors, self.device))
        if self.returns is not None:
            self.returns.restore(_below("returns", tensors, self.device))


def _below(prefix: str, tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {n.removeprefix(start): t.to(device) for n, t in tensors.items() if n.startswith(start)}


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """``[T, B, C]`` and ``[T, B]`` to losses ``[T, B]``, zero where the target is -1."""
    flat = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="none"
    )
    return flat.view(targets.shape)


def _check(method: Mapping[str, Any], window: int) -> int:
    """The method's keys and their ranges; the horizon."""
    just("method", method, METHOD_KEYS)
    kind = choice("method.utility", method["utility"], UTILITIES)
    context = choice("method.context", method["context"], CONTEXTS)
    sizes("method.hidden", method["hidden"])
    number("method.lr", method["lr"], above=0.0)
    number("method.gradient_scale", method["gradient_scale"], least=0.0)
    flag("method.auxiliary", method["auxiliary"])
    number("method.returns", method["returns"], least=0.0, most=1.0)
    whole("method.returns_windows", method["returns_windows"], 1)
    horizon = window if method["horizon"] is None else method["horizon"]
    whole("method.horizon", horizon, 1)
    if kind.endswith("outcome") and context != "hindsight":
        raise UserError(f"method.context={context}: utility={kind} takes its labels from hindsight")
    if method["returns"] and kind != "gradient":
        raise UserError(f"method.returns={method['returns']}: only utility=gradient has λ-returns")
    if kind == "none" and (method["auxiliary"] or method["returns"]):
        raise UserError("method.utility=none: auxiliary and returns need a utility model")
    return int(horizon)
