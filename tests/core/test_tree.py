"""Trees are mapped as pytree maps them."""

from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
from torch.utils import _pytree as pytree

from dnicomm.core.tree import mapped


class Pair(NamedTuple):
    one: torch.Tensor
    two: object = None


def trees(seed):
    torch.manual_seed(seed)
    a, b, c = (torch.randn(2, 3) for _ in range(3))
    return [
        a,
        (),
        (a, b),
        [a, (b, {"x": c})],
        {"x": a, "y": [b, ()]},
        Pair(a),
        Pair(a, (b, "word")),
        OrderedDict(x=a, y=Pair(b, 3)),
    ]


@pytest.mark.parametrize("number", range(8))
def test_mapped_is_pytrees_map_of_tensors(number):
    tree, other = trees(0)[number], trees(1)[number]
    found = mapped(lambda x: x * 2, tree)
    wanted = pytree.tree_map_only(torch.Tensor, lambda x: x * 2, tree)
    beside = mapped(lambda x, y: x - y, tree, other)
    assert pytree.tree_structure(found) == pytree.tree_structure(wanted)
    for a, b in zip(pytree.tree_leaves(found), pytree.tree_leaves(wanted), strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    leaves = [pytree.tree_leaves(part) for part in (tree, other, beside)]
    for a, b, c in zip(*leaves, strict=True):
        assert torch.equal(c, a - b) if isinstance(a, torch.Tensor) else c == a


def test_what_is_no_tensor_stays():
    thing = object()
    assert mapped(lambda x: x, thing) is thing
    assert mapped(lambda x: x, None) is None


def test_trees_must_be_alike():
    x = torch.zeros(1)
    with pytest.raises(ValueError, match="zip"):
        mapped(lambda a, b: a, (x, x), (x,))
