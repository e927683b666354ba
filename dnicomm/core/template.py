"""A module that computes with values lent to it, and trees of tensors with one row in front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree


class Template:
    """A module whose parameters and buffers are lent to it for one call.

    What ``torch.func.functional_call`` does, for any method and with the places looked up once:
    for small modules the looking up costs more than the computing.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        # every owner of every value: tied weights have one value and several owners
        self.places: list[tuple[dict[str, Any], str, int]] = []
        self.firsts: list[tuple[dict[str, Any], str]] = []  # one owner of each value
        numbers: dict[tuple[str, int], int] = {}
        for names, of in ((module.named_parameters(remove_duplicate=False), "_parameters"),
                          (module.named_buffers(remove_duplicate=False), "_buffers")):  # fmt: skip
            for name, value in names:
                owner, _, leaf = name.rpartition(".")
                place = getattr(module.get_submodule(owner), of)
                number = numbers.setdefault((of, id(value)), len(numbers))
                if number == len(self.firsts):
                    self.firsts.append((place, leaf))
                self.places.append((place, leaf, number))

    def call(self, values: Sequence[Tensor], method: str, args: Sequence[Any]) -> tuple[Any, list]:
        """The method's result, and ``values`` as they are afterwards (buffers may change)."""
        own = [place[name] for place, name, _ in self.places]
        for place, name, number in self.places:
            place[name] = values[number]
        try:
            result = getattr(self.module, method)(*args)
            after = [place[name] for place, name in self.firsts]
        finally:
            for (place, name, _), value in zip(self.places, own, strict=True):
                place[name] = value
        return result, after


def first_row(tree: Any) -> Any:
    """``tree`` with the first row in place of each tensor ``[1, …]``."""
    # what pytree.tree_map does, in a tenth of its time: a small model's call is shorter than that
    if isinstance(tree, Tensor):
        return tree[0]
    return _mapped(first_row, tree)


def as_row(tree: Any) -> Any:
    """``tree`` with each tensor as the one row ``[1, …]``."""
    if isinstance(tree, Tensor):
        return tree[None]
    return _mapped(as_row, tree)


def _mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    if type(tree) is tuple or type(tree) is list:
        return type(tree)([function(value) for value in tree])
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*[function(value) for value in tree])
    if type(tree) is dict:
        return {key: function(value) for key, value in tree.items()}
    leaves, spec = pytree.tree_flatten(tree)
    if len(leaves) == 1 and leaves[0] is tree:
        return tree  # no tree at all
    return pytree.tree_unflatten([function(leaf) for leaf in leaves], spec)
