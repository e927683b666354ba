"""What plug-ins give back in a run: a line that names who, when and what it must be.

Only types and shapes are compared, but for the delays of an episode: the engine does it at every
tick.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from dnicomm.errors import UserError
from dnicomm.sim.agent import AgentSpec, State, TickOutput
from dnicomm.sim.channel import Channel
from dnicomm.sim.topology import Edge, edge_name


def check_output(
    time: int,
    agent: str,
    spec: AgentSpec,
    edges: Sequence[Edge],
    size: tuple[int, int],
    output: Any,
    before: State,
) -> None:
    """Check what the tick of ``size`` = (members, worlds) gave back.

    Args:
        agent: name of the first of the members.
        edges: the run's channels.
        before: the states ``[n, B, …]`` from which the tick began.

    Raises:
        UserError: if something is of another type or shape than the contract of an agent says.
    """
    if not isinstance(output, TickOutput):
        found = _described(output) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise _refusal(agent, "what tick gives back", time, found, "a TickOutput")
    worlds, dtype = size[1], torch.get_default_dtype()
    for what, tensor, shape in (
        ("message", output.message, (worlds, spec.message_size)),
        ("action", output.action, (worlds, spec.action_size)),
        ("value", output.value, (worlds,)),
        ("log_std", output.log_std, (worlds, spec.action_size)),
        ("speak", output.speak, (worlds,)),
    ):
        if what not in ("message", "action") and tensor is None:
            continue
        if _is(tensor, (size[0], *shape), dtype):
            continue
        if what == "message":
            out = [edge_name(*edge) for edge in edges if edge[0] == agent] or ["no channel"]
            what = f"message on {', '.join(out)}"
        raise _refusal(agent, what, time, _described(tensor), f"{list(shape)} {_short(dtype)}")
    if _alike(before, output.state):
        return
    allowed = f"{_tree(before)}, as initial_state made it"
    raise _refusal(agent, "state", time, _tree(output.state), allowed)


def _alike(before: State, after: Any) -> bool:
    """Whether a state is of the structure, shapes and types of the one before it."""
    # as a rule it is a tensor or nothing, and to take it apart is ten times the work
    if isinstance(before, Tensor):
        return _is(after, before.shape, before.dtype)
    if type(before) is tuple and type(after) is tuple and not before and not after:
        return True
    old, structure = pytree.tree_flatten(before)
    new, its_structure = pytree.tree_flatten(after)
    return its_structure == structure and all(
        _is(b, a.shape, a.dtype) for a, b in zip(old, new, strict=True)
    )


def check_loss(time: int, agent: str, size: Sequence[int], loss: Any) -> None:
    """Check the loss of the tick of ``size`` = (members, worlds).

    Raises:
        UserError: if it is not one floating-point number for each of them.
    """
    if not (isinstance(loss, Tensor) and loss.shape == size and loss.is_floating_point()):
        allowed = f"[{size[1]}], one floating-point number a world"
        raise _refusal(agent, "loss", time, _described(loss), allowed)


def checked_delays(channel: Channel, edge: str, delays: Any, count: int) -> NDArray[np.int64]:
    """Delays of messages sent at ``count`` times.

    Raises:
        UserError: if they are no whole numbers of at least 0, ``[count]``.
    """
    found = np.asarray(delays)
    whole = found.dtype.kind in "iu"
    if found.shape == (count,) and whole and not (found < 0).any():
        return found.astype(np.int64)
    shown = (
        f"{found.min()} among them" if whole and found.size and found.min() < 0 else _array(found)
    )
    raise UserError(
        f"channel {edge}: {type(channel).__name__}.delays gave {shown}; "
        f"it must give whole numbers of at least 0, [{count}]"
    )


def checked_losses(
    channel: Channel, edge: str, lost: Any, shape: tuple[int, int]
) -> NDArray[np.bool_] | None:
    """Which messages are lost, by time and world; None: none.

    Raises:
        UserError: if it is no array of bool of that shape.
    """
    if lost is None:
        return None
    found = np.asarray(lost)
    if found.shape == shape and found.dtype == bool:
        return np.ascontiguousarray(found)
    raise UserError(
        f"channel {edge}: {type(channel).__name__}.lost gave {_array(found)}; "
        f"it must give {list(shape)} bool, or None"
    )


def _is(found: Any, shape: Sequence[int], dtype: torch.dtype) -> bool:
    return isinstance(found, Tensor) and found.shape == tuple(shape) and found.dtype == dtype


def _described(found: Any) -> str:
    """``found`` ``[n, …]`` as the author of one agent thinks of it."""
    if not isinstance(found, Tensor):
        return f"a {type(found).__name__}"
    return f"{list(found.shape[1:])} {_short(found.dtype)}"


def _tree(state: State) -> str:
    return str(pytree.tree_map(_described, state)).replace("'", "")


def _array(found: NDArray[Any]) -> str:
    return f"{list(found.shape)} {found.dtype}"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _refusal(agent: str, what: str, time: int, found: str, allowed: str) -> UserError:
    return UserError(f"agent {agent}: {what} at world time {time} is {found}; it must be {allowed}")
