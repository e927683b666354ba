"""Own run folders are told from strangers' by a key that the user alone can read."""

import os
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from dnicomm.runs import RunFolder, signature

CONFIG = {"env": {"_target_": "my_world.World"}, "seed": 0}
needs_modes = pytest.mark.skipif(os.name == "nt", reason="files have no modes there")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache" / "dnicomm"
    monkeypatch.setattr("dnicomm.runs.signature.cache_folder", lambda: folder)
    return folder


def test_copied_and_renamed_runs_are_own_and_changed_ones_not(tmp_path, cache):
    run = RunFolder.create(tmp_path / "run", CONFIG)
    assert run.is_own
    assert run.foreign == ""
    shutil.copytree(run.path, tmp_path / "copy")
    run.path.rename(tmp_path / "renamed")
    assert RunFolder.open(tmp_path / "copy").is_own
    assert RunFolder.open(tmp_path / "renamed").is_own
    path = tmp_path / "copy" / "config.yaml"
    path.write_text(path.read_text().replace("my_world", "my_other"))
    changed = RunFolder.open(tmp_path / "copy")
    assert not changed.is_own
    assert changed.foreign == "it was written elsewhere, or its config.yaml has been changed"


def test_a_run_of_another_user_is_a_strangers(tmp_path, cache):
    RunFolder.create(tmp_path / "run", CONFIG)
    (cache / "key").write_bytes(bytes(32))
    assert not RunFolder.open(tmp_path / "run").is_own
    shutil.rmtree(cache)
    assert not RunFolder.open(tmp_path / "run").is_own
    assert not cache.exists()  # reading makes no key


def test_a_run_of_an_earlier_version_says_so(tmp_path, cache):
    run = RunFolder.create(tmp_path / "run", CONFIG)
    (run.path / "run.json").write_text('{"format_version": 1}\n')
    old = RunFolder.open(run.path)
    assert not old.is_own
    assert "no signature: it was written elsewhere, or by an earlier dnicomm" in old.foreign


@pytest.mark.parametrize("signed", ['""', "0", "[]", "{}", '"hmac-sha256:"', '"ü"', "null"])
def test_other_signatures_are_none(tmp_path, cache, signed):
    run = RunFolder.create(tmp_path / "run", CONFIG)
    (run.path / "run.json").write_text(f'{{"format_version": 1, "signature": {signed}}}\n')
    assert not RunFolder.open(run.path).is_own


@needs_modes
def test_the_key_is_the_users_alone(tmp_path, cache):
    RunFolder.create(tmp_path / "run", CONFIG)
    key = cache / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert [path.name for path in cache.iterdir()] == ["key"]
    key.chmod(0o644)
    run = RunFolder.open(tmp_path / "run")
    assert not run.is_own
    assert "is not the user's alone; delete it" in run.foreign
    other = RunFolder.create(tmp_path / "other", CONFIG)  # never fails over it
    assert "is not the user's alone" in other.foreign


def test_first_runs_at_one_moment_agree(tmp_path, cache):
    with ThreadPoolExecutor(8) as pool:
        signed = list(pool.map(lambda _: signature.sign(b"same"), range(32)))
    assert len(set(signed)) == 1
    assert [path.name for path in cache.iterdir()] == ["key"]


def test_first_processes_at_one_moment_agree(tmp_path):
    code = "from dnicomm.runs import signature; print(signature.sign(b'same'))"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "new")}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert len({process.communicate()[0] for process in started}) == 1
    assert (tmp_path / "new" / "dnicomm" / "key").is_file()


def test_where_no_key_can_be_kept_runs_are_made_unsigned(tmp_path, cache):
    cache.parent.mkdir()
    cache.write_text("a file in the folder's place")
    run = RunFolder.create(tmp_path / "run", CONFIG)
    assert not run.is_own
    assert run.foreign.startswith(f"no key can be kept in {cache}: ")
    assert "\n" not in run.foreign
    assert not RunFolder.open(run.path).is_own


def test_without_a_home_there_is_no_key(tmp_path):
    code = (
        "import pathlib\n"
        "def no_home(): raise RuntimeError\n"
        "pathlib.Path.home = no_home\n"
        "from dnicomm.runs import RunFolder\n"
        f"print(RunFolder.create({str(tmp_path / 'run')!r}, {{}}).foreign)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": "relative"}  # as if it were not set
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.stdout.decode().strip() == "there is no home folder to keep a key in"


def test_a_damaged_key_is_said(tmp_path, cache):
    RunFolder.create(tmp_path / "run", CONFIG)
    (cache / "key").write_bytes(b"short")
    assert "is damaged; delete it" in RunFolder.open(tmp_path / "run").foreign
    (cache / "key").unlink()
    (cache / "key").mkdir()
    assert "is damaged" in RunFolder.open(tmp_path / "run").foreign
