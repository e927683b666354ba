"""The paper's experiments: feed-forward and recurrent nets on ``core``, two networks on ``sim``."""

from dnicomm.bench.experiment import Experiment

__all__ = ["Experiment"]
