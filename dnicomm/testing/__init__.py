"""Conformance checks for other people's agents, environments, clocks, channels, utility models.

Each returns what there is to put right, in plain words; nothing is wrong if the list is empty::

    def test_my_agent():
        assert check_agent(MyAgent) == []
"""

from dnicomm.testing.agents import check_agent
from dnicomm.testing.environments import check_env
from dnicomm.testing.messages import check_channel, check_utility
from dnicomm.testing.timing import check_clock

__all__ = ["check_agent", "check_channel", "check_clock", "check_env", "check_utility"]
