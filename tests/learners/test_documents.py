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
    used = re.findall(r"^(?:from|import) ([\w.]+)", block, re.M)
    learners = [module for module in used if module.split(".")[0] in LEARNERS]
    assert learners, "a block without a learner is a ```python block, which runs always"
    for module in learners:  # as it is used: Ray without RLlib's extras is no RLlib
        reason = f"{module} is not installed (pip install dnicomm[interop])"
        pytest.importorskip(module, reason=reason, exc_type=ImportError)
    exec(compile(block, "block", "exec"), {"__name__": "block"})
