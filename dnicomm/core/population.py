"""N modules of one class in one kernel, and one optimiser row for each.

A user writes an ordinary ``nn.Module`` for one; a :class:`Population` holds the parameters of N of
them as one matrix ``[N, P]`` and maps a method over its rows. Moments, step counts, clipping and
the guard against non-finite gradients are per row, so that no row ever feels another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils import _pytree as pytree

from dnicomm.core.in_place import RowsInPlace
from dnicomm.core.optimizers import Adam, RateGroups, RowOptimizer, clip_rows
from dnicomm.core.parameters import (
    check_equal,
    check_parameters,
    copy_module,
    frozen_parameters,
    learnable_parameters,
    rate_factors,
)
from dnicomm.core.rows import Gradient, Layout, Rows
from dnicomm.core.stages import stage
from dnicomm.core.template import Template
from dnicomm.core.tree import mapped


class Population:
    """``N`` independent modules of one class and configuration, stacked.

    Parameters with ``requires_grad=False`` when this is made are frozen: they are no part of the
    matrix, so that they are neither stepped nor given moments nor counted in a gradient's norm.
    A module may have ``rate_factors`` (:func:`dnicomm.core.parameters.rate_factors`).

    Args:
        modules: the members; equal in structure, each with its own values.
        optimizer: row-wise optimiser; None for a population that never learns.

    Raises:
        ValueError: if there is no module, two differ in more than values, a parameter can't be
            held (:func:`dnicomm.core.parameters.check_parameters`), or rate factors don't fit.
    """

    def __init__(self, modules: Sequence[nn.Module], optimizer: RowOptimizer | None = None):
        if not modules:
            raise ValueError("a population needs at least one module")
        check_parameters(modules[0])
        check_equal(modules)
        self.size = len(modules)
        self.optimizer = optimizer
        self._template = Template(copy_module(modules[0]))
        own = learnable_parameters(modules[0])
        self._learnt, self._layout = list(own), Layout([p.shape for p in own.values()])
        self.parameters = torch.stack([_row(module) for module in modules])  # [N, P]
        self.frozen = _stacked([frozen_parameters(module) for module in modules])
        self.buffers = _stacked([dict(module.named_buffers()) for module in modules])
        self._groups = self._rate_groups(modules)
        self.slots = {} if optimizer is None else optimizer.init(self.parameters)
        self._in_place: RowsInPlace | None = None
        self.updates = torch.zeros(self.size, dtype=torch.int64)  # steps taken, by row
        self.skipped = torch.zeros(self.size, dtype=torch.int64)  # steps refused: not finite

    def _rate_groups(self, modules: Sequence[nn.Module]) -> RateGroups | None:
        given = [getattr(module, "rate_factors", None) for module in modules]
        if any(factors is not given[0] and factors != given[0] for factors in given):
            raise ValueError("the modules of a population must have equal rate_factors")
        factors = rate_factors(modules[0])
        return None if factors is None else RateGroups(factors, self._layout.sizes)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_in_place": None}  # a copy has rows of its own to step

    @property
    def template(self) -> nn.Module:
        """A member to ask about structure; its own parameter values mean nothing."""
        return self._template.module

    def to(self, device: torch.device) -> Population:
        """Move everything to ``device``, in place."""
        self._template.module.to(device)
        self.parameters = self.parameters.to(device)
        self.frozen = {k: v.to(device) for k, v in self.frozen.items()}
        self.buffers = {k: v.to(device) for k, v in self.buffers.items()}
        self.slots = {k: v.to(device) for k, v in self.slots.items()}
        self.updates, self.skipped = self.updates.to(device), self.skipped.to(device)
        return self

    # -- computing ----------------------------------------------------------------------------

    def rows(self, index: Tensor | None = None, requires_grad: bool = True) -> Rows:
        """Gather members, to compute with them (``index`` ``[n]`` int64; None: all)."""
        if index is None:
            parameters = self.parameters.detach()
            buffers = {k: v.clone() for k, v in self.buffers.items()}
            frozen = list(self.frozen.values())
        else:
            parameters = self.parameters.index_select(0, index)
            buffers = {k: v[index] for k, v in self.buffers.items()}
            frozen = [v.index_select(0, index) for v in self.frozen.values()]
        return Rows(index, parameters.requires_grad_(requires_grad), buffers, frozen)

    def call(self, rows: Rows, method: str, *args: Any) -> Any:
        """``method`` of every row at once.

        Args:
            args: pytrees of tensors ``[n, ...]``; what is not a tensor goes to each row as it is.

        Returns:
            The method's result with ``[n, ...]`` in place of each tensor. Buffers that the method
            changed are in ``rows.buffers``.

        Raises:
            ValueError: if the method wrote into a frozen parameter.
        """
        if not rows.frozen:
            return self._call(rows, method, args)
        before = [value._version for value in rows.frozen]
        result = self._call(rows, method, args)
        for name, value, version in zip(self.frozen, rows.frozen, before, strict=True):
            if value._version != version:
                raise ValueError(
                    f"{method} writes into the frozen parameter {name} (requires_grad=False); what "
                    "changes without an optimiser belongs in a buffer (register_buffer)"
                )
        return result

    def _call(self, rows: Rows, method: str, args: Sequence[Any]) -> Any:
        values = list(rows.values(self._layout))
        count = len(values) + len(rows.frozen)  # of values that are the same afterwards
        if len(rows.parameters) == 1:  # one row needs no map, and may hold what vmap cannot
            values += [value[0] for value in rows.frozen]
            values += [buffer[0] for buffer in rows.buffers.values()]
            alone, after = self._template.call(values, method, mapped(_first, args))
            rows.buffers = {
                name: value[None] for name, value in zip(rows.buffers, after[count:], strict=True)
            }
            return mapped(_as_row, alone)
        values += [*rows.frozen, *rows.buffers.values()]
        if self._template.stacks:
            return self._template.call_stacked(values, method, args)
        leaves, spec = pytree.tree_flatten(args)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        result_leaves: list[Any] = []
        result_spec: list[pytree.TreeSpec] = []

        def one(values: list[Tensor], *given: Tensor) -> tuple[Tensor, ...]:
            tensors = iter(given)
            filled = [next(tensors) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            own = pytree.tree_unflatten(filled, spec)
            result, after = self._template.call(values, method, own)
            # the structure is the same for every row, so it may leave the map on the side
            result_leaves[:], out = pytree.tree_flatten(result)
            result_spec[:] = [out]
            # a buffer updated in place is returned too: under the map it is another tensor
            return (*(leaf for leaf in result_leaves if isinstance(leaf, Tensor)), *after[count:])

        with self._template.mapping():
            found = vmap(one, randomness="different")(values, *tensors)
        split = len(found) - len(rows.buffers)
        rows.buffers = dict(zip(rows.buffers, found[split:], strict=True))
        returned = iter(found[:split])
        filled = [next(returned) if isinstance(leaf, Tensor) else leaf for leaf in result_leaves]
        return pytree.tree_unflatten(filled, result_spec[0])

    def named(self, rows: Rows) -> dict[str, Tensor]:
        """Parameters of the gathered rows by name, ``[n, …]`` each, without a graph."""
        learnt = self._layout.views(rows.parameters.detach())
        names = [*self._learnt, *self.frozen]
        return dict(zip(names, [*learnt, *rows.frozen], strict=True))

    # -- learning -----------------------------------------------------------------------------

    @torch.no_grad()
    def step(
        self,
        rows: Rows,
        gradient: Gradient | None = None,
        live: Tensor | None = None,
        progress: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        """One optimiser step of the gathered rows, scattered back; buffers are kept too.

        A row whose gradient, or whose parameters after the step, are not finite is left as it was,
        its optimiser's slots too, and counted in ``skipped``.

        Args:
            gradient: of the rows, which the step may change; None: what was found of them.
            live: ``[n]`` bool, rows that have something to learn; None: all.
            progress: share of the run that is over, for optimisers whose rate decays.
            scale: what gradients are divided by.
        """
        assert self.optimizer is not None, "this population has no optimiser"
        if gradient is None:
            gradient = rows.gradient()
        if not gradient:  # nothing was found, or all is frozen
            gradient = [torch.zeros_like(rows.parameters)]
        if rows.buffers:
            self.keep_buffers(rows)
        with stage("optimiser"):
            in_place = self._rows_in_place()
            if in_place is not None:
                self._step_in_place(in_place, rows, gradient, live, progress, scale)
            else:
                whole = gradient[0] if len(gradient) == 1 else torch.cat(list(gradient), 1)
                self._step_gathered(rows, whole / scale, live, progress)

    def _step_in_place(
        self,
        in_place: RowsInPlace,
        rows: Rows,
        gradient: Gradient,
        live: Tensor | None,
        progress: float,
        scale: float,
    ) -> None:
        """:meth:`step` where the rows lie."""
        assert isinstance(self.optimizer, Adam)
        index = range(self.size) if rows.index is None else rows.index.tolist()
        due = None if live is None else live.tolist()
        stepped = in_place.step(self.optimizer, index, gradient, due, scale, progress)
        if all(stepped):
            if rows.index is None:
                self.updates += 1
            else:
                self.updates.index_add_(0, rows.index, torch.ones_like(rows.index))
            return
        at = slice(None) if rows.index is None else rows.index
        good = torch.tensor(stepped)
        self.updates[at] += good
        self.skipped[at] += ~good if live is None else live & ~good

    def step_if_finite(self, gradient: Tensor, progress: float) -> bool:
        """One step of all rows by a gradient ``[N, P]``; False, and none, if it is not finite."""
        in_place = self._rows_in_place()
        if (
            in_place is None
            or self.size > 1
            or (isinstance(self.optimizer, Adam) and self.optimizer.clip)
        ):
            if not math.isfinite(torch.linalg.vector_norm(gradient).item()):
                return False
            self.step(Rows(None, self.parameters, {}), [gradient], progress=progress)
            return True
        assert isinstance(self.optimizer, Adam)
        if not in_place.step_only(self.optimizer, gradient, progress):
            return False
        self.updates += 1
        return True

    def _rows_in_place(self) -> RowsInPlace | None:
        """Steps rows where they lie, if that can be done without a look at what came out."""
        if self._in_place is None or not self._in_place.of(self.parameters, self.slots):
            if not RowsInPlace.can(self.optimizer, self.parameters, self._groups):
                return None
            self._in_place = RowsInPlace(self.parameters, self.slots, self._groups)
        return self._in_place if self._in_place.trusted() else None

    def _step_gathered(
        self, rows: Rows, gradient: Tensor, live: Tensor | None, progress: float
    ) -> None:
        """:meth:`step` for any optimiser and device."""
        assert self.optimizer is not None
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)  # [n, 1]
        finite = torch.isfinite(norm)
        due = torch.ones_like(finite) if live is None else live[:, None]
        good = finite & due
        gradient = torch.where(good, gradient, 0.0)
        gradient = clip_rows(gradient, norm.nan_to_num(0.0, 0.0), self.optimizer.clip)
        weight = good.to(gradient.dtype)
        old = rows.parameters.detach()
        at = slice(None) if rows.index is None else rows.index
        slots = {name: slot[at] for name, slot in self.slots.items()}
        before = {name: slot.clone() for name, slot in slots.items()}  # steps are in place
        new = self.optimizer.step(old, gradient, slots, weight, progress)
        if self._groups is not None:
            new = self._groups.scale_step(old, new)
        sane = torch.isfinite(new.sum(1, keepdim=True))
        if sane.is_cuda or not sane.all():  # to ask a GPU would cost more than to compute
            good = good & sane
            new = torch.where(good, new, old)
            for name, slot in slots.items():
                kept = good.view(-1, *[1] * (slot.dim() - 1))
                slots[name] = torch.where(kept, slot, before[name])
        self.parameters[at] = new
        for name, slot in slots.items():
            if rows.index is not None or slot.data_ptr() != self.slots[name].data_ptr():
                self.slots[name][at] = slot
        self.updates[at] += good[:, 0]
        self.skipped[at] += (due & ~good)[:, 0]

    @torch.no_grad()
    def keep_buffers(self, rows: Rows) -> None:
        """Scatter the gathered rows' buffers back; what is not finite is left as it was."""
        for name, buffer in rows.buffers.items():
            old = self.buffers[name] if rows.index is None else self.buffers[name][rows.index]
            new = torch.where(torch.isfinite(buffer), buffer.detach(), old)
            if rows.index is None:
                self.buffers[name] = new
            else:
                self.buffers[name][rows.index] = new

    # -- keeping ------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Everything to keep in a checkpoint, by name; the tensors themselves, not copies."""
        kept = {"parameters": self.parameters, "updates": self.updates, "skipped": self.skipped}
        kept |= {f"slot.{name}": slot for name, slot in self.slots.items()}
        kept |= {f"frozen.{name}": value for name, value in self.frozen.items()}
        return kept | {f"buffer.{name}": buffer for name, buffer in self.buffers.items()}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take the values of :meth:`tensors` back.

        Raises:
            ValueError: if a name is missing or a shape differs.
        """
        for name, own in self.tensors().items():
            if name not in tensors or tensors[name].shape != own.shape:
                found = "missing" if name not in tensors else f"{tuple(tensors[name].shape)}"
                raise ValueError(f"{name}: expected {tuple(own.shape)}, {found}")
            own.copy_(tensors[name])

    def module(self, row: int) -> nn.Module:
        """Member ``row`` as an ordinary module with a copy of its parameters and buffers.

        What is frozen here is frozen in it.
        """
        member = copy_module(self.template)
        values = [*self._layout.views(self.parameters), *self.frozen.values()]
        values += self.buffers.values()
        with torch.no_grad():
            own = zip(Template(member).places, self._template.places, strict=True)
            for (place, name, _), (_, _, number) in own:
                place[name].copy_(values[number][row])
        return member


def _row(module: nn.Module) -> Tensor:
    """The parameters of a module that learn, side by side, ``[P]``."""
    values = [p.detach().flatten() for p in learnable_parameters(module).values()]
    return torch.cat(values) if values else torch.zeros(0)


def _stacked(named: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Equally named tensors ``[…]`` of N modules as ``[N, …]``."""
    return {name: torch.stack([own[name].detach() for own in named]) for name in named[0]}


def _first(rows: Tensor) -> Tensor:
    return rows[0]


def _as_row(tensor: Tensor) -> Tensor:
    return tensor[None]
