"""What a run needs in memory, told before it is asked for."""

from __future__ import annotations

from pathlib import Path

from dnicomm.errors import UserError

NUMBER = 4  # bytes
# How often each thing is there at once, at most (measured: docs/results/speed.md). Of parameters:
# the population's, two moments, those gathered, a gradient, its parts, and what a member was built
# as.
PARAMETERS, MESSAGES, STATES = 8, 14, 12
FROZEN = 3  # the population's, those gathered, and what a member was built as
PER_TICK_MESSAGES, PER_TICK_STATES = 2, 8  # what each further tick of a window keeps for backward

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


class MemoryNeed:
    """Adds up what the agents of a run need, and refuses once it is more than there is.

    Args:
        free: bytes; None: nobody knows, and nothing is refused.
    """

    def __init__(self, free: int | None) -> None:
        self.free = free
        self.bytes = 0

    def add_agents(
        self,
        agents: int,
        parameters: int,
        messages: int,
        state: int,
        ticks: int,
        frozen: int = 0,
    ) -> None:
        """So many agents more.

        Args:
            parameters: of one agent, that learn; messages: numbers in its inbox and state: in its
                state, in all worlds.
            ticks: of a window, at most.
            frozen: parameters of one agent that don't learn.
        """
        kept_messages = MESSAGES + PER_TICK_MESSAGES * (ticks - 1)
        kept_states = STATES + PER_TICK_STATES * (ticks - 1)
        each = PARAMETERS * parameters + FROZEN * frozen
        each += kept_messages * messages + kept_states * state
        self._add(agents * each, f"{agents:,} agents of {parameters + frozen:,} parameters")

    def add_utilities(self, models: int, parameters: int, frozen: int = 0) -> None:
        """So many utility models more; ``parameters`` of each learn, ``frozen`` ones don't."""
        added = models * (PARAMETERS * parameters + FROZEN * frozen)
        self._add(added, f"{models:,} utility models of {parameters + frozen:,} parameters")

    def _add(self, numbers: int, what: str) -> None:
        self.bytes += NUMBER * numbers
        if self.free is not None and self.bytes > self.free:
            raise UserError(
                f"this run needs about {_shown(self.bytes)} of memory with its {what}, and "
                f"{_shown(self.free)} are free: fewer agents, channels, worlds or units"
            )


def free_memory() -> int | None:
    """Bytes that this process may still take; None where the system does not say."""
    try:
        lines = _MEMINFO.read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        free = 1024 * int(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None
    try:  # a container may have less than the machine
        limit, used = ((_CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):
        return free


def _shown(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
