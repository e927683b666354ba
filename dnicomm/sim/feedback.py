"""How a sender learns: what the modes put into its window, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from dnicomm.errors import UserError, nearest

MODES = {
    "synthetic": "the receiver's utility model answers at once (DNI)",
    "none": "senders learn nothing from receivers",
    "exact": "the graph is kept and the sender waits for the receiver's true gradient",
    "mixed": "share x true + (1 - share) x synthetic, at every message",
}


@dataclass(frozen=True)
class Feedback:
    """Shares of the true and of the synthetic gradient that reach a sender.

    Args:
        true_share: λ, of the gradient that comes back through the graph; above 0 all windows are
            one, and nobody steps inside it.
        synthetic_share: of what the utility model says.
    """

    true_share: float
    synthetic_share: float

    @property
    def locked(self) -> bool:
        """Whether senders wait for receivers."""
        return self.true_share > 0


def feedback_of(mode: str, share: float = 0.5) -> Feedback:
    """The feedback that a configuration names.

    Args:
        mode: one of ``MODES``.
        share: λ of ``mixed``.

    Raises:
        UserError: if there is no such mode, or the share is not in [0, 1].
    """
    if mode not in MODES:
        raise UserError(f"feedback={mode}: no such feedback.{nearest(str(mode), MODES)}")
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        raise UserError(f"feedback_share={share}: must be from 0 to 1")
    if mode == "mixed":
        return Feedback(share, 1 - share)
    return Feedback(float(mode == "exact"), float(mode == "synthetic"))
