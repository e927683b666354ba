"""Messages leave: receivers' utility models answer at once, channels take the mail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from dnicomm.core.masking import masked
from dnicomm.sim.encoding import Occasion
from dnicomm.sim.parcel import Parcel
from dnicomm.sim.population import Index, Route
from dnicomm.sim.topology import edge_name
from dnicomm.sim.window import Tick

if TYPE_CHECKING:
    from dnicomm.sim.engine import Engine
    from dnicomm.sim.lane import Lane


@dataclass
class Outgoing:
    """Messages along one route at one time."""

    sender: Lane
    tick: Tick
    route: Route
    chosen: Index  # [e] among the route's edges
    place: Tensor  # [e] senders among the tick's members
    mask: Tensor | None  # [e, B] worlds in which they are sent; None: all


def feed_back(engine: Engine, time: int, ticks: Sequence[tuple[Lane, Tick]]) -> None:
    """Send what was said at ``time``, and record in the senders' windows what it is worth."""
    outgoing = []
    for lane, tick in ticks:
        own = [o for route in lane.population.routes if (o := _outgoing(engine, lane, tick, route))]
        if own:
            _encode(engine, lane, tick, own)
        outgoing += own
    for receiver, lane in enumerate(engine.lanes):
        to_it = [o for o in outgoing if o.route.receiver == receiver]
        if to_it:
            _send(engine, time, lane, to_it)
    if not engine.learn:
        return
    for lane, tick in ticks:
        assert lane.window is not None
        if tick.given is not None:
            lane.window.record.add_output(tick.message, tick.given)


def _encode(engine: Engine, lane: Lane, tick: Tick, outgoing: Sequence[Outgoing]) -> None:
    """What the members of a tick say becomes what is sent, ``[n, B, D]``."""
    encoder = lane.population.encoder
    if encoder is None:
        return
    speaks, noise = _speaks(outgoing, tick), None
    if encoder.draws and engine.learn:
        key = "message", lane.population.names[0], tick.time
        size = tick.message.shape[-1]
        noise = engine.uniform(key, lane.population, tick.members, tick.message, size)
    occasion = Occasion(engine.learn, tick.at, speaks, noise)
    tick.message = encoder.encode(tick.message, occasion)

    def again(message: Tensor, worlds: Tensor | None) -> Tensor:
        own = [part if part is None or worlds is None else part[:, worlds]
               for part in (speaks, noise)]  # fmt: skip
        there = replace(occasion, active=own[0], noise=own[1], again=True)
        return encoder.encode(message, there)

    tick.encode = again


def _outgoing(engine: Engine, lane: Lane, tick: Tick, route: Route) -> Outgoing | None:
    """What the members of a tick send along a route; None: nothing."""
    there = np.zeros(len(lane.population.names), dtype=bool)
    there[tick.members] = True
    chosen = np.flatnonzero(there[route.senders])
    if len(chosen) == 0:
        return None
    is_open: Tensor | bool = True
    if engine.closes_edges:
        channels = route.channels[chosen]
        ends = engine.sender_of[channels].tolist(), engine.receiver_of[channels].tolist()
        is_open = engine.world.open_edges(*ends)
    if not isinstance(is_open, Tensor) and not is_open:
        return None
    place = engine.tensor(np.searchsorted(tick.members, route.senders[chosen]))
    mask = None if tick.active is None else tick.active[place]
    for other in (is_open if isinstance(is_open, Tensor) else None,
                  None if tick.spoke is None else tick.spoke[place]):  # fmt: skip
        if other is not None:
            mask = other if mask is None else mask & other
    return Outgoing(lane, tick, route, chosen, place, mask)


def _speaks(own: Sequence[Outgoing], tick: Tick) -> Tensor | None:
    """Worlds in which each member sends anything at all, ``[n, B]``; None: all."""
    if all(o.mask is None for o in own) and len(own[0].place) == len(tick.members):
        return None
    count = torch.zeros(tick.message.shape[:2], device=tick.message.device)
    for o in own:
        sent = count.new_ones(len(o.place), count.shape[1]) if o.mask is None else o.mask.to(count)
        count.index_add_(0, o.place, sent)
    return count > 0


def _send(engine: Engine, time: int, lane: Lane, outgoing: Sequence[Outgoing]) -> None:
    """Messages to one population: told what they are worth, and put on their way."""
    slots = np.concatenate([o.route.slots[o.chosen] for o in outgoing])
    channels = np.concatenate([o.route.channels[o.chosen] for o in outgoing])
    share = engine.feedback.true_share if engine.learn else 0.0
    sent = torch.cat([_message(o, share > 0) for o in outgoing])  # [e, B, D]
    with torch.no_grad():
        value = sent.detach()
        mask, whole = _mask(outgoing, value)  # [e, B]
        if not _known_finite(value):
            good = torch.isfinite(value).all(-1)  # [e, B]
            _count_bad(engine, outgoing, good)
            mask, whole = mask & good, False
            value = masked(value, mask)
        value = _distort(engine, time, channels, value)
        context = _context(engine, time, lane, slots, outgoing)  # [e, B, C]
        _tell(engine, lane, outgoing, slots, value, context, None if whole else mask)
    if share:  # forward the value that arrives, backward the sender's own, straight through
        value = value + share * torch.where(mask[..., None], sent - sent.detach(), 0.0)
    engine.charge(channels, mask)
    arrivals = time + 1 + engine.delays[channels, time]
    for arrival in _distinct(arrivals):
        chosen = np.flatnonzero(arrivals == arrival)
        at = slice(None) if len(chosen) == len(slots) else engine.tensor(chosen)
        parcel = Parcel(slots[chosen], value[at], context[at], mask[at], time, arrival, whole)
        _post(engine, lane, parcel, channels[chosen])


def _message(o: Outgoing, in_graph: bool) -> Tensor:
    """The messages ``[e, B, D]``; in their senders' graph, if a gradient is to come back there."""
    message = o.tick.message if in_graph else o.tick.message.detach()
    return message.index_select(0, o.place)


def _post(engine: Engine, lane: Lane, parcel: Parcel, channels: Index) -> None:
    """Put messages on their way; where the links are scarce, each waits for its turn."""
    lost = _lost(engine, parcel.sent_at, channels)
    if engine.queues is None:
        lane.mailbox.send(parcel, lost)
        return
    later, carried = engine.queues.admit(engine.tensor(channels), parcel.sent_at, parcel.mask)
    dropped = ~carried if lost is None else ~carried | lost
    # to ask a GPU which there are would cost more than to send
    waits = range(engine.queues.longest + 1) if later.is_cuda else later.unique().tolist()
    for wait in waits:
        mask = parcel.mask & (later == wait)
        part = replace(parcel, mask=mask, arrival=parcel.arrival + wait, whole=False)
        lane.mailbox.send(part, dropped)


def _distinct(times: Index) -> list[int]:
    """Which times there are among ``times``, in order."""
    first = times[0]
    return [int(first)] if (times == first).all() else np.unique(times).tolist()


def _mask(outgoing: Sequence[Outgoing], sent: Tensor) -> tuple[Tensor, bool]:
    """Worlds ``[e, B]`` in which the sender is there and the channel open; whether that is all."""
    everywhere = sent.new_ones(sent.shape[:2], dtype=torch.bool)
    if all(o.mask is None for o in outgoing):
        return everywhere, True
    parts = everywhere.split([len(o.place) for o in outgoing])
    # a tensor of its own: the world may change what it has said
    return torch.cat([part if o.mask is None else part & o.mask
                      for o, part in zip(outgoing, parts, strict=True)]), False  # fmt: skip


def _count_bad(engine: Engine, outgoing: Sequence[Outgoing], good: Tensor) -> None:
    """Count messages with a NaN or infinite number, where ``good`` ``[e, B]`` is false."""
    if not engine.learn:
        return
    for o, fine in zip(outgoing, good.split([len(o.place) for o in outgoing]), strict=True):
        bad = ~fine if o.mask is None else ~fine & o.mask
        o.sender.population.agent_meter.add("bad_messages", o.tick.at[o.place], bad.sum(1))


def _known_finite(x: Tensor) -> bool:
    """Whether the host knows that no number is NaN or infinite: a finite sum has finite terms.

    To ask a GPU for it would cost more than to look at each.
    """
    return x.device.type == "cpu" and math.isfinite(x.sum().item())


def _distort(engine: Engine, time: int, channels: Index, value: Tensor) -> Tensor:
    if not engine.channel.distorts:
        return value
    arrived = [
        engine.channel.distort(value[i], engine.draw("noise", edge_name(*engine.edges[c]), time))
        for i, c in enumerate(channels)
    ]
    return torch.stack(arrived)


def _lost(engine: Engine, time: int, channels: Index) -> Tensor | None:
    if not engine.channel.loses:
        return None
    lost = [engine.lost[c] for c in channels]
    if all(part is None for part in lost):
        return None
    never = torch.zeros(engine.world.num_worlds, dtype=torch.bool, device=engine.world.device)
    return torch.stack([never if part is None else part[time] for part in lost])


def _context(
    engine: Engine, time: int, lane: Lane, slots: Index, outgoing: Sequence[Outgoing]
) -> Tensor:
    """What the receivers' utility models see beside the messages, ``[e, B, C]``."""
    worlds, device = engine.world.num_worlds, engine.world.device
    parts = []
    for name in lane.population.context if engine.learn else ():
        if name == "receiver":
            members = engine.tensor(slots // lane.population.spec.num_inputs)
            part = _states(engine, lane, members)
        elif name == "sender":
            part = torch.cat([_states(engine, o.sender, o.tick.at[o.place]) for o in outgoing])
        elif name == "time":
            part = torch.full((len(slots), worlds, 1), time / engine.length, device=device)
        else:
            part = engine.world.context(name).expand(len(slots), -1, -1)
        parts.append(part)
    if not parts:
        return torch.zeros(len(slots), worlds, lane.mailbox.context.shape[-1], device=device)
    return torch.cat(parts, -1)


def _states(engine: Engine, lane: Lane, members: Tensor) -> Tensor:
    """Last states of ``members`` ``[e]`` of a population, ``[e, B, S]``."""
    worlds = engine.world.num_worlds
    nothing = torch.zeros(len(members), worlds, 0, device=members.device)
    leaves = pytree.tree_leaves(engine.last_state(lane))
    return torch.cat([nothing, *(leaf[members].reshape(len(members), worlds, -1)
                                 for leaf in leaves)], -1)  # fmt: skip


def _tell(
    engine: Engine,
    lane: Lane,
    outgoing: Sequence[Outgoing],
    slots: Index,
    value: Tensor,
    context: Tensor,
    mask: Tensor | None,
) -> None:
    """The receivers' utility models answer: gradients ``[e, B, D]`` go to the senders."""
    interface, share = lane.population.interface, engine.feedback.synthetic_share
    if not engine.learn or interface is None or not (share or interface.needs_cost):
        return
    rows = engine.tensor(slots)
    try:
        estimate = interface.estimate(value, context, rows)
    except Exception as error:
        lane.population.raise_utility_mistake("forward", slots, error)
    gradient = estimate.gradient
    scale: float | Tensor = share * engine.gradient_scale
    if not interface.fits_unread:  # it only knows of messages that were read
        scale = scale * lane.population.share_read[rows][:, None, None]
    if isinstance(scale, Tensor) or scale != 1:
        gradient = gradient * scale
    good = mask  # [e, B] where there is something to tell; None: everywhere
    if not _known_finite(gradient):
        good = torch.isfinite(estimate.gradient).all(-1)
        good = good if mask is None else good & mask
    sizes = [len(o.place) for o in outgoing]
    if share:
        told = gradient if good is None else masked(gradient, good)
        for o, g in zip(outgoing, told.split(sizes), strict=True):
            if o.tick.given is None:
                o.tick.given = torch.zeros_like(o.tick.message)
            o.tick.given.index_add_(0, o.place, g)
    if interface.needs_cost:
        worth = estimate.value if good is None else masked(estimate.value, good)
        for o, v in zip(outgoing, worth.split(sizes), strict=True):
            if o.tick.foreseen is None:
                o.tick.foreseen = torch.zeros(o.tick.message.shape[:2], device=v.device)
            o.tick.foreseen.index_add_(0, o.place, v)
