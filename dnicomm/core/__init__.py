"""Tensors only: interfaces, utility models, windows, populations. Usable without the simulator."""

from dnicomm.core.forward import SyntheticInput, UnlockedSequential
from dnicomm.core.interface import Interface, Message
from dnicomm.core.layer_adam import LayerAdam
from dnicomm.core.layers import DecoupledSequential
from dnicomm.core.least_squares import LeastSquares, LeastSquaresUtility
from dnicomm.core.optimizers import SGD, Adam, RowOptimizer
from dnicomm.core.outcomes import LocalOutcomeUtility, OutcomeUtility
from dnicomm.core.population import Population
from dnicomm.core.recurrent import DecoupledRNN, FutureGradients, LSTMCore, RecurrentWindow
from dnicomm.core.returns import LambdaReturns
from dnicomm.core.rows import Rows
from dnicomm.core.utility import (
    CriticUtility,
    Estimate,
    GradientUtility,
    LocalUtility,
    Target,
    UtilityModel,
)
from dnicomm.core.window import Window

__all__ = [
    "SGD",
    "Adam",
    "CriticUtility",
    "DecoupledRNN",
    "DecoupledSequential",
    "Estimate",
    "FutureGradients",
    "GradientUtility",
    "Interface",
    "LSTMCore",
    "LambdaReturns",
    "LayerAdam",
    "LeastSquares",
    "LeastSquaresUtility",
    "LocalOutcomeUtility",
    "LocalUtility",
    "Message",
    "OutcomeUtility",
    "Population",
    "RecurrentWindow",
    "RowOptimizer",
    "Rows",
    "SyntheticInput",
    "Target",
    "UnlockedSequential",
    "UtilityModel",
    "Window",
]
