"""Pieces of work come back in order, from whichever threads."""

import multiprocessing
import threading

import pytest
import torch

from dnicomm.core.workers import PIECES, spread


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_results_are_those_of_a_loop(threads, count, small):
    def work(piece):
        return piece * 2, torch.get_num_threads(), threading.current_thread().name

    found = spread(work, range(count), small)
    assert [result for result, _, _ in found] == [2 * piece for piece in range(count)]
    handed_out = threads > 1 and count >= PIECES * threads
    assert {number for _, number, _ in found} <= {1 if handed_out or small else threads}
    own = threading.current_thread().name
    assert all(name == own or (handed_out and name.startswith("dnicomm")) for _, _, name in found)
    assert torch.get_num_threads() == threads


def test_all_threads_take_part(threads):
    together = threading.Barrier(threads)  # nobody goes on before each thread has a piece

    def work(piece):
        together.wait(timeout=60)
        return threading.get_ident()

    assert len(set(spread(work, range(PIECES * threads), True))) == threads


def test_an_error_comes_through(threads):
    def fails(piece):
        raise KeyError(piece)

    with pytest.raises(KeyError):
        spread(fails, range(20), True)
    assert torch.get_num_threads() == threads


def _forked():
    assert spread(str, range(20), True) == [str(piece) for piece in range(20)]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(threads):
    _forked()
    child = multiprocessing.get_context("fork").Process(target=_forked)
    child.start()
    child.join(60)
    assert child.exitcode == 0
