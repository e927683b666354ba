"""Mail is put where it belongs, and nowhere else."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dnicomm.sim.cells import Cells


@given(
    slots=st.lists(st.integers(0, 6), unique=True, max_size=5),
    worlds=st.integers(1, 3),
    size=st.integers(0, 3),
    some=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_cells_equal_a_loop(slots, worlds, size, some, seed):
    torch.manual_seed(seed)
    wide, flat = torch.randn(7, worlds, size), torch.randint(9, (7, worlds))
    values = torch.randn(worlds, len(slots), size).transpose(0, 1)
    mask = torch.rand(len(slots), worlds) < 0.5 if some else None
    put, filled, numbers = wide.clone(), wide.clone(), flat.clone()
    for e, slot in enumerate(slots):
        for b in range(worlds):
            if mask is None or mask[e, b]:
                put[slot, b], filled[slot, b], numbers[slot, b] = values[e, b], 0.0, 4
    cells = Cells(torch.tensor(slots, dtype=torch.int64), mask)
    cleared = wide.clone()
    cells.put(wide, values)
    cells.fill(cleared, 0.0)
    cells.fill(flat, 4)
    assert torch.equal(wide, put)
    assert torch.equal(cleared, filled)
    assert torch.equal(flat, numbers)
