"""Shared by all tests: devices to run exactness tests on, and a key to sign runs with."""

import pytest
import torch
from hypothesis import settings

# how long an example takes is the machine's affair
settings.register_profile("dnicomm", deadline=None)
settings.load_profile("dnicomm")

torch.set_num_threads(1)  # small tensors; and tests run in several processes


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
