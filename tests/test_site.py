"""The documents as a site: built without a warning, whole, and loading nothing from elsewhere."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ROOMS = [p.stem for p in sorted((ROOT / "docs" / "reference").glob("*.md")) if p.stem != "keys"]


@pytest.fixture(scope="module")
def site(tmp_path_factory, need):
    need("mkdocs.commands.build", "material", "mkdocstrings_handlers.python")  # dnicomm[docs]
    target = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", target], cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.relative_to(target): path.read_text() for path in target.rglob("*.html")}


def test_every_room_for_users_has_a_page():
    public = {"agents", "bench", "communication", "core", "data", "envs", "runs", "sim", "testing"}
    assert set(ROOMS) == public


def test_every_page_is_in_the_navigation():
    def pages(entry):
        inside = entry.values() if isinstance(entry, dict) else entry
        return {entry} if isinstance(entry, str) else set().union(*map(pages, inside))

    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert pages(navigation) == there


@pytest.mark.parametrize("room", ["core", "sim"])
def test_pages_in_an_order_of_their_own_leave_nothing_out(room):
    page = (ROOT / "docs" / "reference" / f"{room}.md").read_text()
    module = importlib.import_module(f"dnicomm.{room}")
    own = {name for name in module.__all__
           if getattr(module, name).__module__.startswith(f"dnicomm.{room}.")}  # fmt: skip
    assert set(re.findall(rf"^::: dnicomm\.{room}\.(\w+)$", page, re.M)) == own


@pytest.mark.slow
def test_everything_public_is_described(site):
    """By the name that it is imported by; or, where a module has the same name, by its own."""
    described = {
        name for page in site.values() for name in re.findall(r'id="(dnicomm\.\S+)"', page)
    }
    rooms = [importlib.import_module(f"dnicomm.{room}") for room in ROOMS]
    for room in rooms:
        for name in room.__all__:
            value = getattr(room, name)
            if callable(value):
                homes = [r.__name__ for r in rooms if getattr(r, name, None) is value]
                homes.append(value.__module__)
                assert {f"{home}.{name}" for home in homes} & described, (room, name)


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site):
    for path, page in site.items():
        loaded = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(\w+:[^"]*)"', page)
        assert [url for url in loaded if not url.startswith("data:")] == [], path


@pytest.mark.slow
def test_what_the_hooks_put_in_is_there(site):
    assert "gae_lambda" in re.sub("<[^>]*>", "", site[Path("reference/keys.html")])
    assert not [path for path, page in site.items() if re.search(r":(func|class|meth):<", page)]
