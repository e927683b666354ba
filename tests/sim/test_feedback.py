"""What each mode lets through."""

import pytest

from dnicomm.errors import UserError
from dnicomm.sim.feedback import MODES, Feedback, feedback_of


def test_the_modes():
    assert feedback_of("synthetic") == Feedback(0.0, 1.0)
    assert feedback_of("none") == Feedback(0.0, 0.0)
    assert feedback_of("exact") == Feedback(1.0, 0.0)
    assert feedback_of("mixed", 0.25) == Feedback(0.25, 0.75)
    assert set(MODES) == {"synthetic", "none", "exact", "mixed"}


@pytest.mark.parametrize("share", [0, 0.0, 1, 1.0])
def test_mixed_ends_where_the_others_begin(share):
    other = "exact" if share else "synthetic"
    assert feedback_of("mixed", share) == feedback_of(other)


def test_only_who_waits_for_the_truth_is_locked():
    assert feedback_of("exact").locked
    assert feedback_of("mixed", 0.01).locked
    assert not feedback_of("mixed", 0.0).locked
    assert not feedback_of("synthetic").locked
    assert not feedback_of("none").locked


def test_another_mode_is_refused():
    with pytest.raises(UserError, match=r"feedback=exakt.*Did you mean 'exact'.*Known: exact, mix"):
        feedback_of("exakt")
    with pytest.raises(UserError, match="feedback=None"):
        feedback_of(None)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), "half", None])
def test_another_share_is_refused(share):
    with pytest.raises(UserError, match=r"feedback_share=.*from 0 to 1"):
        feedback_of("mixed", share)
