"""Irregularity as an experiment: what the keys mean, and that runs are kept whole."""

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from dnicomm.bench.clocks import CLOCKS, Clocks, clock_of
from dnicomm.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs/bench/clocks"
METHODS = sorted(path.stem for path in (CONFIGS / "method").glob("*.yaml"))
OF_THE_COMMAND = {"defaults", "hydra", "_target_", "eval"}


def read(name):
    return OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml"))


def build(method="dni", **changes):
    """The smoke budget, with a method's own keys in ``of_method``."""
    keys = read("clocks") | read("budget/smoke")
    keys = {key: value for key, value in keys.items() if key not in OF_THE_COMMAND}
    own = read(f"method/{method}") | changes.pop("of_method", {})
    rest = {"method": own, "seed": 0, "device": torch.device("cpu")}
    return Clocks(**keys | rest | changes)


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.25, 0.1])
@pytest.mark.parametrize("kind", CLOCKS)
def test_clocks_of_one_rate_tick_as_often(kind, rate):
    horizon = 200_000
    ticks = clock_of(kind, rate).ticks(np.random.default_rng(0), horizon)
    assert len(ticks) / horizon == pytest.approx(rate, rel=0.06)


def test_clocks_differ_in_how_irregular_they_are():
    deviation = {}
    for kind in CLOCKS:
        ticks = clock_of(kind, 0.25).ticks(np.random.default_rng(0), 20_000)
        deviation[kind] = np.diff(np.asarray(ticks)).std()
    assert deviation["periodic"] == 0
    assert deviation["periodic"] < deviation["jittered"] < deviation["poisson"]
    assert deviation["poisson"] < deviation["bursty"]


@pytest.mark.parametrize("world", ["relay", "signalling"])
@pytest.mark.parametrize("method", METHODS)
def test_who_waits_updates_once_an_episode(method, world):
    experiment = build(method, world=world, clock="periodic", rate=0.5)
    for _ in range(2):
        experiment.step()
    metrics = experiment.evaluate()
    agents = len(experiment.simulation.world.agents)
    ticks = 2 * 12 // 2  # of an agent
    updates = 2 * ticks - 2  # the second one hears nothing at first
    if world == "signalling":
        updates = 2 * agents * (1 + 3 * 4)  # PPO: one pass, and three over four shares
    elif method in ("exact", "mixed"):
        updates = 2 * agents
    assert metrics["agent_updates"] == updates
    assert (
        experiment.samples == experiment.simulation.agent_ticks() * experiment.simulation.num_worlds
    )
    assert experiment.figure in metrics


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("dni", {"rate": 1.5}, "rate=1.5"),
        ("dni", {"clock": "sun"}, "clock=sun"),
        ("dni", {"of_method": {"utility": "none"}}, "method.utility=none: feedback=synthetic"),
        ("dni", {"of_method": {"speed": 1}}, "method.speed: there is no such key"),
        ("dni", {"of_method": {"feedback": "loud"}}, "method.feedback=loud"),
        ("dni", {"delay": -1}, "channel.delay=-1"),
    ],
)
def test_bad_input(method, changes, message):
    with pytest.raises(UserError, match="^" + message.replace(".", r"\.")):
        build(method, **changes)
