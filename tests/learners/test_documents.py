"""What the documents show of other learners runs, where these are installed."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "environments.md"
BLOCKS = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(), re.M | re.S)
LEARNERS = ("torchrl", "ray", "supersuit", "stable_baselines3")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_runs(block):
    used = [name for name in LEARNERS if re.search(rf"^(from|import) {name}\b", block, re.M)]
    assert used, "a block without a learner is a ```python block, which runs always"
    for name in used:
        pytest.importorskip(name, reason=f"{name} is not installed (pip install dnicomm[interop])")
    exec(compile(block, "block", "exec"), {"__name__": "block"})
