"""What environments put beside observations, however they do it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def tidy_infos(infos: Any, agents: Iterable[Any] = ()) -> dict[Any, dict[str, Any]]:
    """Return infos as a dict of a dict for each agent; None, lists and the like are empty ones.

    Args:
        agents: who has an entry in any case.
    """
    known: Mapping[Any, Any] = infos if isinstance(infos, Mapping) else {}
    names = dict.fromkeys([*agents, *known])
    return {name: _entry(known.get(name)) for name in names}


def _entry(info: Any) -> dict[str, Any]:
    return dict(info) if isinstance(info, Mapping) else {}
