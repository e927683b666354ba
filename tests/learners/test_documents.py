"""What the documents show of other learners runs, where these are installed."""

import ast
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "environments.md"
BLOCKS = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(), re.M | re.S)
LEARNERS = ("torchrl", "ray", "supersuit", "stable_baselines3")


def imported(block):
    """What it imports: ``module``, or ``module:name`` for each name."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}:{alias.name}" for alias in node.names)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_runs(block, need):
    used = [name for name in imported(block) if re.split("[.:]", name)[0] in LEARNERS]
    assert used, "a block without a learner is a ```python block, which runs always"
    need(*used)
    exec(compile(block, "block", "exec"), {"__name__": "block"})
