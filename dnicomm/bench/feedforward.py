"""Classification of images with a net whose layers learn apart (paper, section 3.1)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dnicomm.bench.checks import choice, flag, number, whole
from dnicomm.bench.compiling import check_compiler, compile_layer
from dnicomm.bench.experiment import Experiment
from dnicomm.bench.feedforward_methods import (
    Method,
    decay_of,
    positions_of,
    synthetic_input,
)
from dnicomm.bench.feedforward_probe import compare, true_gradients
from dnicomm.bench.keeping import (
    load_module,
    load_optimizer,
    load_tensors,
    module_tensors,
    optimizer_tensors,
)
from dnicomm.bench.networks import cnn, fcn, message_shapes
from dnicomm.bench.precision import plan_autocast
from dnicomm.core import DecoupledSequential, Interface, UnlockedSequential
from dnicomm.core.layers import group
from dnicomm.core.optimizers import rate
from dnicomm.data import Images, load_images
from dnicomm.errors import UserError
from dnicomm.sim.random import generator, torch_seed

DATASETS = ("digits", "mnist", "cifar10")
TEST_BATCH = 500  # images at a time in a test; no result depends on it


class Classification(Experiment):
    """A net with interfaces between its layers, trained on labelled images.

    Args:
        dataset: ``digits``, ``mnist`` or ``cifar10``.
        model: ``fcn`` or ``cnn`` (:mod:`dnicomm.bench.networks`).
        layers: hidden layers; the head is not counted.
        width: units of a hidden layer, or channels.
        method: how layers learn (:class:`dnicomm.bench.feedforward_methods.Method`).
        interfaces: ``all``, or the hidden layers that an interface follows, counted from 1.
        unlock: ``update``, or ``full`` with synthetic inputs (``fcn`` only).
        inputs: ``hidden`` and ``lr`` of the models of synthetic inputs.
        update_probability: with which a layer learns from a batch, layers in random order.
        mixing: share of true gradient in what layers learn from: the λ of BP(λ).
        returns: share of true gradient in what utility models learn from.
        steps: updates.
        batch: images an update.
        lr: of the layers' Adam.
        decay: of both rates: true, false, or shares of the run (``dnicomm.core.optimizers.rate``).
        validation: training images held out and tested on instead of the test set; None: none.
        autocast: compute in bfloat16 where that is safe, and the device has it.
        compile: compile the layers with ``torch.compile``.
        seed: of parameters, batches and the layers' order.
        device: where everything lives, data included.

    Raises:
        UserError: if a value is not allowed, or the data is not there.
    """

    sample = "images"
    figure = "accuracy"

    def __init__(
        self,
        dataset: str,
        model: str,
        layers: int,
        width: int,
        method: Mapping[str, Any],
        interfaces: str | Sequence[int],
        unlock: str,
        inputs: Mapping[str, Any],
        update_probability: float,
        mixing: float,
        returns: float,
        steps: int,
        batch: int,
        lr: float,
        decay: bool | Sequence[float],
        validation: int | None,
        autocast: bool,
        compile: bool,
        seed: int,
        device: torch.device,
    ) -> None:
        self._keys = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        choice("dataset", dataset, DATASETS)
        choice("model", model, ("fcn", "cnn"))
        choice("unlock", unlock, ("update", "full"))
        self.steps, self.batch = whole("steps", steps, least=1), whole("batch", batch, least=2)
        self.lr, self.decay = number("lr", lr, above=0), decay_of(decay)
        self.probability = number("update_probability", update_probability, above=0, most=1)
        kinds = ("linear",) if model == "fcn" else ("conv2d", "linear")
        self.autocast, self.fallbacks = plan_autocast(flag("autocast", autocast), kinds, device)
        self.seed, self.device = whole("seed", seed, least=0), device
        self.method = Method(method, self.decay)
        self.positions = positions_of(interfaces, self.method, whole("layers", layers, least=1))
        shares = number("mixing", mixing, 0, 1), number("returns", returns, 0, 1)
        self._check_together(unlock, model, shares)
        if validation is not None:
            whole("validation", validation, least=1)
        self.images = _images(dataset, validation, model == "fcn", device)
        self.num_classes = self.images.num_classes
        if self.batch > len(self.images.train_labels):
            total = len(self.images.train_labels)
            raise UserError(f"batch={batch}: {dataset} has {total} images to train on")
        example = self.images.train_images[:2]
        self.net = self._build(
            model, layers, whole("width", width, least=1), example, shares, unlock == "full", inputs
        )
        if flag("compile", compile):
            check_compiler("compile=true", device.type)
            for layer in self.net.layers:
                compile_layer(layer)
        self._order: tuple[int, Tensor] | None = None  # the epoch, and its images' numbers
        self._loss, self._losses = torch.zeros((), device=device), 0  # since the last evaluation

    def _check_together(self, unlock: str, model: str, shares: tuple[float, float]) -> None:
        mixing, returns = shares
        if mixing and returns:
            raise UserError("mixing and returns: only one of them may be above 0")
        if (mixing or returns) and (unlock == "full" or self.probability < 1):
            raise UserError(
                "mixing and returns carry gradients from layer to layer: with them, "
                "unlock=update and update_probability=1"
            )
        if (mixing or returns or self.probability < 1) and self.method.name == "backprop":
            raise UserError(
                "method=backprop has no interfaces: mixing=0, returns=0 and update_probability=1"
            )
        if (mixing or returns) and self.method.name == "none":
            raise UserError("method=none has no synthetic gradients: mixing=0 and returns=0")
        if unlock == "full" and not self.method.decoupled:
            raise UserError(f"unlock=full: method={self.method.name} has no interfaces")
        if unlock == "full" and model != "fcn":
            raise UserError(f"unlock=full: synthetic inputs are for model=fcn, not {model}")

    def _build(
        self,
        model: str,
        layers: int,
        width: int,
        example: Tensor,
        shares: tuple[float, float],
        full: bool,
        inputs: Mapping[str, Any],
    ) -> DecoupledSequential:
        with torch_seed(self.seed, "net"):  # the same for every method
            if model == "fcn":
                net = fcn(example.shape[1], self.num_classes, layers, width)
            else:
                _, channels, height, wide = example.shape
                net = cnn((channels, height, wide), self.num_classes, layers, width)
        net = [layer.to(self.device) for layer in net]
        shapes = [message_shapes(net, example)[position - 1] for position in self.positions]
        grouped = group(net, self.positions)
        with torch_seed(self.seed, "utility"):
            between: list[Interface | None] = [None] * len(shapes)
            if self.method.decoupled:
                between = [self.method.interface(s, self.num_classes) for s in shapes]
            foreseen = [
                synthetic_input(inputs, example.shape[1], shape[0], self.decay)
                for shape in (shapes if full else [])
            ]
        for one in (*between, *foreseen):
            if one is not None:
                one.to(self.device)

        def optimizer(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
            return torch.optim.Adam(parameters, lr=self.lr, fused=True)

        if full:
            own = [interface for interface in between if interface is not None]
            return UnlockedSequential(grouped, own, foreseen, optimizer)
        return DecoupledSequential(grouped, between, optimizer, *shares)

    # -- training -----------------------------------------------------------------------------

    def step(self) -> None:
        chosen = self._numbers()
        x, label = self.images.train_images[chosen], self.images.train_labels[chosen]
        self._set_rates(self.updates / self.steps)
        # every weight is used once before it is stepped, so nothing need be kept cast
        with self._cast():
            losses = self.net.update(
                x,
                lambda output: self._losses_of(output, label),
                self._context(label),
                self._turns(),
            )
        self._loss += losses.mean()
        self._losses += 1
        self.updates += 1
        self.samples += self.batch

    def _cast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.autocast, cache_enabled=False
        )

    def _losses_of(self, output: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(output.float(), label, reduction="none")

    def _context(self, label: Tensor) -> Tensor | None:
        if not self.method.decoupled or not self.method.labelled:
            return None
        return F.one_hot(label, self.num_classes).float()

    def _numbers(self) -> Tensor:
        """Images of this update. An epoch is a permutation; what fills no batch is left out."""
        total = len(self.images.train_labels)
        epoch, place = divmod(self.updates, total // self.batch)
        if self._order is None or self._order[0] != epoch:
            permutation = generator(self.seed, "epoch", epoch).permutation(total)
            self._order = epoch, torch.from_numpy(permutation).to(self.device)
        return self._order[1][place * self.batch : (place + 1) * self.batch]

    def _turns(self) -> list[int] | None:
        """Which layers learn from this batch, and in which order; None: all, as they run."""
        if self.probability == 1:
            return None
        random = generator(self.seed, "turns", self.updates)
        order = random.permutation(len(self.net.layers))
        learns = random.random(len(order)) < self.probability
        return [int(layer) for layer in order if learns[layer]]

    def _set_rates(self, progress: float) -> None:
        for optimizer in self.net.optimizers:
            if optimizer is not None:
                optimizer.param_groups[0]["lr"] = rate(self.lr, self.decay, progress)
        for _, interface in self._interfaces():
            interface.progress = progress

    def _interfaces(self) -> list[tuple[str, Interface]]:
        pairs = [(f"utility.{i}", one) for i, one in enumerate(self.net.interfaces, start=1)]
        if isinstance(self.net, UnlockedSequential):
            pairs += [(f"input.{i}", one) for i, one in enumerate(self.net.inputs, start=2)]
        return [(name, one) for name, one in pairs if one is not None]

    # -- testing ------------------------------------------------------------------------------

    def evaluate(self) -> dict[str, float]:
        metrics = self._test()
        if self._losses:
            metrics["train_loss"] = (self._loss / self._losses).item()
        self._loss.zero_()
        self._losses = 0
        if self.method.decoupled:
            metrics |= self._compare()
        return metrics

    @torch.no_grad()
    def _test(self) -> dict[str, float]:
        self.net.eval()
        right, loss = torch.zeros((2,), device=self.device)
        images, labels = self.images.test_images, self.images.test_labels
        with self._cast():
            for x, label in zip(images.split(TEST_BATCH), labels.split(TEST_BATCH), strict=True):
                output = self.net(x)
                right += (output.argmax(1) == label).sum()
                loss += self._losses_of(output, label).sum()
        self.net.train()
        accuracy = 100 * right.item() / len(labels)
        return {"accuracy": accuracy, "error": 100 - accuracy, "loss": loss.item() / len(labels)}

    def _compare(self) -> dict[str, float]:
        # the same images at each evaluation and in each run
        x, label = (
            part[: self.batch] for part in (self.images.train_images, self.images.train_labels)
        )
        with self._cast():
            messages, gradients = true_gradients(
                self.net, x, lambda output: self._losses_of(output, label)
            )
            context = F.one_hot(label, self.num_classes).float()
            return compare(self.net.interfaces, messages, gradients, context)

    def baseline(self) -> Classification:
        plain = {"method": {"name": "backprop"}, "interfaces": "all", "unlock": "update"}
        shares = {"update_probability": 1.0, "mixing": 0.0, "returns": 0.0}
        return Classification(**{**self._keys, **plain, **shares})

    # -- keeping ------------------------------------------------------------------------------

    def moving(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for i, layer in enumerate(self.net.layers):
            if i == len(self.net.interfaces) or self.net.interfaces[i] is not None:
                found |= {f"layer.{i + 1}.{n}": p for n, p in layer.named_parameters()}
        return found | {name: one.utilities.parameters for name, one in self._interfaces()}

    def _kept(self) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": value
            for name, one in self._interfaces()
            for key, value in one.utilities.tensors().items()
        }

    def tensors(self) -> dict[str, Tensor]:
        kept = module_tensors("net", self.net) | self._kept()
        for i, optimizer in enumerate(self.net.optimizers):
            if optimizer is not None:
                kept |= optimizer_tensors(f"optimizer.{i}", optimizer)
        return kept

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        load_module("net", self.net, tensors)
        load_tensors(self._kept(), tensors)
        for i, optimizer in enumerate(self.net.optimizers):
            if optimizer is not None:
                load_optimizer(f"optimizer.{i}", optimizer, tensors)
                for state in optimizer.state.values():  # a fused optimiser counts on the device
                    state["step"] = state["step"].to(self.device)
        self.updates, self.samples = facts["updates"], facts["samples"]
        self.stopped = facts["stopped"]


@functools.lru_cache(maxsize=1)  # a run, its twin and its baseline measured beside it share them
def _images(dataset: str, validation: int | None, flat: bool, device: torch.device) -> Images:
    """The data set on ``device``; flattened to ``[n, D]``, or ``[n, C, H, W]`` channels last."""
    images = load_images(dataset)
    if validation is not None:
        images = images.held_out(validation)

    def placed(x: Tensor) -> Tensor:
        if flat:
            return x.flatten(1).to(device)
        return x.to(device, memory_format=torch.channels_last)

    return Images(
        placed(images.train_images),
        images.train_labels.to(device),
        placed(images.test_images),
        images.test_labels.to(device),
        images.num_classes,
    )
