"""Tests of optional packages ask for what they use: absent, broken or incomplete, they skip."""

import re
import sys
from pathlib import Path

import pytest

STUBS = {
    "my_odd_absent": None,
    "my_odd_broken": "raise ImportError('libodd.so.1: cannot open shared object file')",
    "my_odd_version": "raise TypeError('descriptors cannot be created directly')",
    "my_odd_ray": "__version__ = '2.60'",  # without my_odd_ray.rllib
    "my_odd_whole": "import my_odd_whole.part\n\ndef found(): pass",
}


@pytest.fixture
def stubs(tmp_path, monkeypatch):
    for name, text in STUBS.items():
        if text is not None:
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text(text)
    for name in ("my_odd_ray/extras", "my_odd_whole/part"):
        (tmp_path / f"{name}.py").write_text("import my_odd_dependency" if "ray" in name else "")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("my_odd"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("my_odd_absent", "No module named 'my_odd_absent'"),
        ("my_odd_broken", "ImportError: libodd.so.1"),
        ("my_odd_version", "TypeError: descriptors"),
        ("my_odd_ray.rllib", "No module named 'my_odd_ray.rllib'"),
        ("my_odd_ray:rllib", "No module named 'my_odd_ray.rllib'"),
        ("my_odd_ray.extras", "No module named 'my_odd_dependency'"),
    ],
)
def test_what_cannot_be_imported_is_skipped_with_the_reason(stubs, need, name, why):
    with pytest.raises(pytest.skip.Exception) as caught:
        need("my_odd_whole", name)
    assert str(caught.value).startswith(f"{name} can't be imported here: ")
    assert why in str(caught.value)


def test_what_can_be_imported_is_not(stubs, need):
    need("my_odd_whole", "my_odd_whole.part", "my_odd_ray")
    need("my_odd_whole:found", "my_odd_whole:part")


def test_nobody_asks_for_a_package_by_its_name_alone():
    """``importorskip`` fails where a package is broken, and tempts to ask for its first name."""
    asks = re.compile(r"\b(importorskip|find_spec)\(\"")
    tests = Path(__file__).parent
    files = {str(p.relative_to(tests)): p.read_text("utf-8") for p in tests.rglob("*.py")}
    found = [name for name, text in files.items() if asks.search(text)]
    assert not found
