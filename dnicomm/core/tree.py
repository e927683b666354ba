"""Trees of tensors: what ``torch.utils._pytree`` does, in a tenth of its time.

States, inboxes and outputs are trees of one to five tensors, and a small model's call is over
before pytree has taken one apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree


def mapped(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """``function`` of each tensor of a tree; what is no tensor stays as it is.

    Args:
        others: trees of the same structure, whose tensors are given beside.
    """
    if isinstance(tree, Tensor):
        return function(tree, *others)
    kind = type(tree)
    if kind is tuple or kind is list:
        return kind([mapped(function, *parts) for parts in zip(tree, *others, strict=True)])
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return kind(*[mapped(function, *parts) for parts in zip(tree, *others, strict=True)])
    if kind is dict:
        return {key: mapped(function, tree[key], *(other[key] for other in others)) for key in tree}
    leaves, spec = pytree.tree_flatten(tree)
    if len(leaves) == 1 and leaves[0] is tree:
        return tree  # no tree at all
    beside = [spec.flatten_up_to(other) for other in others]
    return pytree.tree_unflatten(
        [mapped(function, *parts) for parts in zip(leaves, *beside, strict=True)], spec
    )
