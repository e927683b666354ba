import gc
import itertools

import pytest
import torch

from dnicomm.bench.speed.environments import (
    SHIPPED,
    EnvironmentSpeed,
    measure,
    steps_of_a_batch,
    steps_of_copies,
)
from dnicomm.envs import Relay, Switch


@pytest.mark.parametrize("name", SHIPPED)
def test_every_environment_is_stepped_over_the_ends_of_its_episodes(name):
    env = SHIPPED[name]
    steps = env.make(1, "train", torch.device("cpu")).horizon + 2
    assert all(0 <= n <= 3 for n in itertools.islice(steps_of_a_batch(env, 3), steps))
    assert [*itertools.islice(steps_of_copies(name, env, 1), 2 if name == "consensus" else steps)]


def test_worlds_that_are_over_are_not_counted():
    batch = [*itertools.islice(steps_of_a_batch(Switch(), 50), 30)]
    assert batch[0] == 50
    assert min(batch) < 50, "who tells ends a world"
    assert [*itertools.islice(steps_of_copies("switch", Switch(), 7), 4)] == [7] * 4


def test_a_row_says_what_was_measured_side_by_side():
    row, other = measure({"relay": Relay(num_agents=2)}, worlds=(1, 8), rounds=3, seconds=0.001)
    assert isinstance(row, EnvironmentSpeed)
    assert (row.environment, row.worlds, other.worlds) == ("relay", 1, 8)
    for found in (row, other):
        assert 0 < found.low <= found.ratio <= found.high
        assert found.batched > 0 < found.copies
    assert gc.isenabled()
