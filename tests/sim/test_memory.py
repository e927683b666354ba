"""A run that is too large is refused before it takes anything."""

import pytest

from dnicomm.errors import UserError
from dnicomm.sim import memory
from dnicomm.sim.memory import MemoryNeed, free_memory


def test_needs_add_up():
    need = MemoryNeed(None)
    need.add_agents(10, parameters=100, messages=20, state=5, ticks=1)
    assert need.bytes == 4 * 10 * (8 * 100 + 14 * 20 + 12 * 5)
    need.add_utilities(3, 50)
    assert need.bytes == 4 * 10 * (8 * 100 + 14 * 20 + 12 * 5) + 4 * 3 * 8 * 50
    longer = MemoryNeed(None)
    longer.add_agents(10, parameters=100, messages=20, state=5, ticks=3)
    assert longer.bytes == 4 * 10 * (8 * 100 + 18 * 20 + 28 * 5)


def test_too_much_is_refused_with_the_figure():
    need = MemoryNeed(10**9)
    need.add_agents(1000, 10_000, 0, 0, 1)
    with pytest.raises(UserError, match=r"about 3\.5 GB .* 100,000 utility .* 1\.0 GB are free"):
        need.add_utilities(100_000, 1000)


def test_a_container_may_have_less(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    8000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert free_memory() == 8_192_000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert free_memory() == 8_192_000
    (tmp_path / "memory.max").write_text("5000\n")
    assert free_memory() == 4000
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "nothing")
    assert free_memory() is None
