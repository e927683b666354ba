"""Shared by all tests: devices to run exactness tests on, torch's threads, optional packages."""

import contextlib
import importlib
import locale
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from hypothesis import settings

# how long an example takes is the machine's affair
settings.register_profile("dnicomm", deadline=None)
settings.load_profile("dnicomm")

# what a user has set for a terminal, or for other programs, is no part of a test
for _name in (
    "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE",
    "COLUMNS", "LINES", "HYDRA_FULL_ERROR",
):  # fmt: skip
    os.environ.pop(_name, None)
os.environ["TERM"] = "xterm-256color"
with contextlib.suppress(locale.Error):  # what open() and read_text() read: the sources are UTF-8
    locale.setlocale(locale.LC_CTYPE, "C.UTF-8")

# small tensors, and tests run in several processes; two are for looking what depends on it
torch.set_num_threads(int(os.environ.get("DNICOMM_TEST_THREADS", 1)))


@pytest.fixture(autouse=True)
def _threads_stay() -> Iterator[None]:
    """A test that needs some number of threads puts back what was there."""
    before = torch.get_num_threads()
    yield
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == before, "the test has changed torch's threads for those after it"


@pytest.fixture(scope="session", autouse=True)
def key_folder(tmp_path_factory):
    """The folder of the key that runs are signed with: not the user's own."""
    folder = tmp_path_factory.mktemp("cache") / "dnicomm"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dnicomm.runs.signature.cache_folder", lambda: folder)
        yield folder


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request) -> torch.device:
    """Each device that the exactness tests run on."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    return torch.device(request.param)


@cache
def _lacking(name: str) -> str | None:
    """Why a module, or ``module:attribute``, can't be had here; None where it can.

    A package that is there but can't be imported (without its extras, of another version, with a
    library missing) is as good as absent; so what is asked for is what the test uses, not
    the package's name.
    """
    module, _, attribute = name.partition(":")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = importlib.import_module(module)
            if attribute and not hasattr(found, attribute):
                importlib.import_module(f"{module}.{attribute}")
    except Exception as error:  # whatever somebody else's package raises
        return f"{name} can't be imported here: {type(error).__name__}: {error}"
    return None


def _need(*names: str) -> None:
    for name in names:
        why = _lacking(name)
        if why is not None:
            pytest.skip(why)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked ``needs(name, …)`` where one of them can't be imported."""
    for mark in item.iter_markers("needs"):
        _need(*mark.args)


@pytest.fixture(scope="session")
def need() -> Callable[..., None]:
    """``need(name, …)`` within a test: skips where one of them can't be imported."""
    return _need


@pytest.fixture(scope="session")
def package_index() -> None:
    """For tests that install something: skips where pip has no index to install from."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps",
               "--ignore-installed", "--retries=0", "--timeout=10", "setuptools"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be installed here: {done.stderr.strip()[-300:]}")
