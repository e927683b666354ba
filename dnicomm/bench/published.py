"""Figures that the paper published, as far as they are known, and how sure each is.

Jaderberg et al., "Decoupled Neural Interfaces using Synthetic Gradients" (arXiv 1608.05343, ICML
2017). The published text was not at hand while this was written: a figure is never to be shown
without its mark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CERTAINTY = {
    "V": "verified in a source that quotes the paper",
    "C": "recalled, and borne out in part by a source or by arithmetic",
    "R": "recalled only",
}


@dataclass(frozen=True)
class Published:
    """A figure of the paper.

    Attributes:
        value: as published: test error in %, longest sequence, or bits per character.
        certainty: a key of :data:`CERTAINTY`.
        about: read off a curve, or said in words.
    """

    value: float
    certainty: str
    about: bool = False

    def __str__(self) -> str:
        return f"{'about ' if self.about else ''}{self.value:g} [{self.certainty}]"


# experiment, model -> hidden layers -> test error in % of no feedback, backprop, DNI, cDNI; all
# recalled only (v1 Table 1; every layer decoupled, 500,000 updates)
_ERRORS: Mapping[tuple[str, str], Mapping[int, tuple[float, float, float, float]]] = {
    ("mnist", "fcn"): {
        3: (9.3, 2.0, 1.9, 2.2),
        4: (12.6, 1.8, 2.2, 1.9),
        5: (16.2, 1.8, 3.4, 1.7),
        6: (21.4, 1.8, 4.3, 1.6),
    },
    ("mnist", "cnn"): {3: (0.9, 0.8, 0.9, 1.0), 4: (2.8, 0.6, 0.7, 0.8)},
    ("cifar10", "fcn"): {
        3: (54.9, 43.5, 42.5, 48.5),
        4: (57.2, 43.0, 45.0, 45.1),
        5: (59.6, 41.7, 46.9, 43.5),
        6: (61.9, 42.0, 49.7, 46.8),
    },
    ("cifar10", "cnn"): {3: (28.7, 17.9, 19.5, 19.0), 4: (38.1, 15.7, 19.5, 16.4)},
}
_COLUMNS = ("none", "backprop", "dni", "cdni")

# experiment -> method -> window T -> figure (ICML Table 1)
_RECURRENT: Mapping[str, Mapping[str, Mapping[int, float]]] = {
    "copy": {
        "bptt": {2: 7, 3: 8, 4: 10, 5: 8},
        "dni": {2: 16, 3: 14, 4: 18, 5: 18},
        "dni_aux": {2: 16, 3: 17, 4: 19, 5: 18},
    },
    "repeat_copy": {
        "bptt": {2: 7, 3: 5, 4: 19, 5: 23},
        "dni": {2: 39, 3: 33, 4: 39, 5: 59},
        "dni_aux": {2: 39, 3: 59, 4: 67, 5: 59},
    },
    "ptb": {
        "bptt": {2: 1.39, 3: 1.38, 4: 1.37, 5: 1.37, 8: 1.35, 20: 1.35, 40: 1.34},
        "dni": {2: 1.37, 3: 1.36, 4: 1.35, 5: 1.35, 8: 1.34},
        "dni_aux": {2: 1.37, 3: 1.36, 4: 1.35, 5: 1.35, 8: 1.33},
    },
}
# repeat copy's figures all are lengths (R + 1) N + 3 of the curriculum; copy's are recalled only
_SURE = {"copy": "R", "repeat_copy": "C", "ptb": "R"}


def published(name: str, config: Mapping[str, Any]) -> Published | None:
    """What the paper has for a setting; None: nothing, or nothing that is known.

    Args:
        name: of the experiment.
        config: its keys. Sizes and schedules may differ from the paper's.
    """
    method = config.get("method", {}).get("name")
    if name in ("mnist", "cifar10"):
        return _feed_forward(name, config, method)
    if name in _RECURRENT and config.get("text", name) == name:
        window = config.get("window", 0)
        value = _RECURRENT[name].get(method, {}).get(window)
        seen = name == "ptb" and method == "dni" and window == 8  # in the authors' own summary
        return None if value is None else Published(value, "V" if seen else _SURE[name])
    return None


def _feed_forward(name: str, config: Mapping[str, Any], method: Any) -> Published | None:
    model, layers = config.get("model"), config.get("layers", 0)
    whole = config.get("dataset") == name and config.get("validation") is None
    plain = whole and all(config.get(key, 0) in (0, None) for key in ("mixing", "returns"))
    if not plain or config.get("interfaces", "all") != "all":
        return None
    full, probability = config.get("unlock") == "full", config.get("update_probability", 1)
    if name == "mnist" and model == "fcn" and (full or probability != 1 or layers == 21):
        return _in_words(method, layers, full, probability)
    if full or probability != 1 or method not in _COLUMNS:
        return None
    row = _ERRORS.get((name, str(model)), {}).get(layers)
    return None if row is None else Published(row[_COLUMNS.index(method)], "R")


def _in_words(method: Any, layers: Any, full: bool, probability: Any) -> Published | None:
    """What the text says of nets on MNIST beside the table: about 2 % each time."""
    if layers == 4 and not full and probability == 0.2 and method == "dni":
        return Published(2.0, "V", about=True)
    if layers == 4 and full and probability == 1 and method in ("dni", "cdni"):
        return Published(2.0, "C", about=True)
    if layers == 21 and not full and probability == 1 and method == "cdni":
        return Published(2.0, "R", about=True)
    return None
