"""Measures of communication, on arrays: what messages say, and whether anybody listens.

Everything that is information is in nats.
"""

from dnicomm.communication.coding import Centres, as_symbols, as_words, positions
from dnicomm.communication.dependence import PERMUTATIONS, Estimate, against_chance, dependence
from dnicomm.communication.disentanglement import (
    bag_of_symbols_disentanglement,
    context_independence,
    positional_disentanglement,
)
from dnicomm.communication.grouping import deal, spread
from dnicomm.communication.influence import (
    causal_influence,
    gaussian_causal_influence,
    gaussian_kl_divergence,
    gaussian_l1_distance,
    kl_divergence,
    l1_distance,
)
from dnicomm.communication.information import entropy, mutual_information
from dnicomm.communication.similarity import topographic_similarity

__all__ = [
    "PERMUTATIONS",
    "Centres",
    "Estimate",
    "against_chance",
    "as_symbols",
    "as_words",
    "bag_of_symbols_disentanglement",
    "causal_influence",
    "context_independence",
    "deal",
    "dependence",
    "entropy",
    "gaussian_causal_influence",
    "gaussian_kl_divergence",
    "gaussian_l1_distance",
    "kl_divergence",
    "l1_distance",
    "mutual_information",
    "positional_disentanglement",
    "positions",
    "spread",
    "topographic_similarity",
]
