"""Every experiment with every method on a GPU: it trains, is tested, and a checkpoint fits."""

import functools
import math

import pytest
import torch

from dnicomm.commands.bench.catalogue import experiments, options
from dnicomm.commands.bench.everything import Setting, settings
from dnicomm.commands.bench.training import ExperimentWork

METHODS = [(name, option.name) for name in experiments() for option in options(name, "method")]


@functools.cache
def found() -> dict[tuple[str, str], Setting]:
    """The smoke setting of each method alone."""
    alone = [setting for setting in settings(["budget=smoke"]) if len(setting.words) == 1]
    return {(s.name, s.words[0].removeprefix("method=")): s for s in alone}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_an_experiment_runs_on_a_gpu(name, method):
    setting = found()[name, method]
    work = ExperimentWork({**setting.values, **setting.notes, "device": "cuda"})
    experiment = work.experiment
    assert all(tensor.is_cuda for tensor in experiment.moving().values())
    for _ in range(3):
        experiment.step()
    assert all(math.isfinite(value) for value in experiment.evaluate().values())
    again = work.fresh()
    kept = {name: tensor.detach().cpu() for name, tensor in experiment.tensors().items()}
    again.restore(kept, experiment.facts())
    experiment.step()
    again.step()
    for name, tensor in experiment.moving().items():
        torch.testing.assert_close(again.moving()[name], tensor, msg=name)
