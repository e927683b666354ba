"""Ranges of the options that this package's own classes take, by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dnicomm.commands.values import number, refusal, whole

_positive = partial(number, above=True)
_share = partial(number, high=1.0)


def _maybe(check: Callable[[str, Any], Any], where: str, value: Any) -> None:
    if value is not None:
        check(where, value)


def _each(check: Callable[[str, Any], Any], allowed: str, where: str, values: Any) -> None:
    try:
        for value in values:
            check(where, value)
    except Exception:
        raise refusal(where, values, allowed) from None


def _betas(where: str, values: Any) -> None:
    allowed = "two numbers [b1,b2], each from 0 to below 1"
    _each(_share, allowed, where, values)
    if len(values) != 2 or max(values) >= 1:
        raise refusal(where, values, allowed)


def _pool(where: str, value: Any) -> None:
    if value not in (None, "sum", "mean"):
        raise refusal(where, value, "sum, mean or null")


_RANGES: Mapping[str, Callable[[str, Any], Any]] = {
    "width": partial(whole, least=1),
    "entropy": number,
    "value_weight": number,
    "epochs": partial(whole, least=1),
    "minibatches": partial(whole, least=1),
    "pool": _pool,
    "hidden": partial(_each, partial(whole, least=1), "a list of whole numbers of at least 1"),
    "sobolev": number,
    "lr": _positive,
    "eps": _positive,
    "clip": partial(_maybe, _positive),
    "memory": partial(number, low=1.0),
    "ridge": _positive,
    "momentum": _share,
    "betas": _betas,
}


def check_ranges(where: str, maker: Any, values: Mapping[str, Any]) -> None:
    """Check what is known of ``values``; another package's classes check their own.

    Raises:
        UserError: if one is out of range.
    """
    if not str(getattr(maker, "__module__", "")).startswith("dnicomm."):
        return
    for key, value in values.items():
        if key in _RANGES:
            _RANGES[key](f"{where}.{key}", value)
