"""Whether each part of a message stands for one attribute of what it is about.

Positional and bag-of-symbols disentanglement (Chaabouni et al., 2020, section 3.2), context
independence (Bogin et al., 2018, section 4). Messages and attributes are symbols; ``coding.py``
makes them of vectors. All from 0 to 1, without unit, by counted frequencies.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnicomm.communication.information import codes, contingency, entropy

Symbols = NDArray[Any]


def positional_disentanglement(attributes: Symbols, messages: Symbols) -> float:
    """How far each position stands for one attribute and no other.

    The mean over positions of ``(I(s; a¹) - I(s; a²)) / H(s)``, where a¹ and a² are the attributes
    that say most of the position's symbol s.

    Args:
        attributes: ``[n, A]``.
        messages: ``[n, L]``.

    Returns:
        nan where no position ever changes, or there are fewer than two attributes.
    """
    _check(attributes, messages)
    return _gap(attributes, [messages[:, j] for j in range(messages.shape[1])])


def bag_of_symbols_disentanglement(
    attributes: Symbols, messages: Symbols, ignored: Collection[int] = ()
) -> float:
    """The same with how often each symbol occurs in a message, wherever it stands.

    Args:
        attributes: ``[n, A]``.
        messages: ``[n, L]`` over one alphabet.
        ignored: symbols that mean nothing, such as the end of a message.

    Returns:
        nan where all messages have the same symbols, or there are fewer than two attributes.
    """
    _check(attributes, messages)
    alphabet = [symbol for symbol in np.unique(messages) if symbol not in ignored]
    return _gap(attributes, [(messages == symbol).sum(1) for symbol in alphabet])


def context_independence(attributes: Symbols, messages: Symbols) -> float:
    """How far each value of an attribute has a message of its own.

    The mean over values a of ``p(m_a | a) p(a | m_a)``, where m_a is the message that says most
    surely a: ``m_a = argmax_m p(a | m)``, and among equally sure ones the one used most for it.

    Args:
        attributes: ``[n, A]``.
        messages: ``[n]`` whole messages.

    Returns:
        nan where there are none.
    """
    found = []
    for column in attributes.T:
        counts = contingency(column, messages).astype(np.float64)  # [a, m]
        of_message = counts / counts.sum(0)  # p(a | m)
        of_value = counts / counts.sum(1, keepdims=True)  # p(m | a)
        for sure, used in zip(of_message, of_value, strict=True):
            best = np.lexsort((used, sure))[-1]
            found.append(sure[best] * used[best])
    return float(np.mean(found)) if found else float("nan")


def _gap(attributes: Symbols, parts: list[Symbols]) -> float:
    """Mean over the parts that change of what their best attribute says more than the second."""
    if attributes.shape[1] < 2 or not parts or len(attributes) == 0:
        return float("nan")
    size = np.array([entropy(part, corrected=False) for part in parts])
    information = _information(attributes, parts)  # [parts, A]
    second, first = np.sort(information, 1)[:, -2:].T
    changes = size > 0
    if not changes.any():
        return float("nan")
    return float(((first - second)[changes] / size[changes]).mean())


def _information(attributes: Symbols, parts: list[Symbols]) -> NDArray[np.float64]:
    """Mutual information of every part with every attribute, ``[parts, A]``, by one product."""
    n = len(attributes)
    x, of_part = _indicators(parts)
    y, of_attribute = _indicators(list(attributes.T))
    joint = x.T @ y / n  # [symbols, values]
    expected = np.outer(x.mean(0), y.mean(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(joint > 0, joint * np.log(joint / expected), 0.0)
    rows = np.add.reduceat(terms, of_part, axis=0)
    found: NDArray[np.float64] = np.add.reduceat(rows, of_attribute, axis=1).clip(min=0.0)
    return found


def _indicators(columns: list[Symbols]) -> tuple[NDArray[np.float64], list[int]]:
    """Columns one-hot side by side, ``[n, values of all]``, and where each one begins."""
    parts, begins, width = [], [], 0
    for column in columns:
        values, found = codes(column)
        parts.append(np.eye(found)[values])
        begins.append(width)
        width += found
    return np.concatenate(parts, 1), begins


def _check(attributes: Symbols, messages: Symbols) -> None:
    if attributes.ndim != 2 or messages.ndim != 2 or len(attributes) != len(messages):
        raise ValueError(
            "attributes are [n, A] and messages [n, L]; these have shapes "
            f"{attributes.shape} and {messages.shape}"
        )
