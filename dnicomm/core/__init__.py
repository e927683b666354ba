"""Tensors only: interfaces, utility models, windows, populations. Usable without the simulator."""

from dnicomm.core.interface import Interface, Message
from dnicomm.core.layers import DecoupledSequential
from dnicomm.core.optimizers import SGD, Adam, RowOptimizer
from dnicomm.core.population import Population, Rows
from dnicomm.core.recurrent import DecoupledRNN, LSTMCore, RecurrentWindow
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
    "GradientUtility",
    "Interface",
    "LSTMCore",
    "LocalUtility",
    "Message",
    "Population",
    "RecurrentWindow",
    "RowOptimizer",
    "Rows",
    "Target",
    "UtilityModel",
    "Window",
]
