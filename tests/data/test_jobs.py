"""Work in several processes: in order, and none of them outlives the one that started them."""

import os
import select
import signal
import time
from functools import partial

import pytest

from inspire_d2.data.jobs import run_jobs


def square(number: int) -> int:
    return number * number


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_are_in_order(jobs: int) -> None:
    for chunk in (1, 8):
        words = {"unit": "square", "doing": "working", "after_a_death": ""}
        squares = run_jobs(square, range(30), jobs, chunk=chunk, **words)
        assert squares == [number**2 for number in range(30)]


def long_work(pipe: int, item: int) -> None:
    signal.alarm(60)  # at last, where the test fails
    os.write(pipe, b".")
    time.sleep(40)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process to end")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_stays_behind(number: int) -> None:
    read_end, write_end = os.pipe()
    owner = os.fork()
    if owner == 0:
        for heeded in (signal.SIGTERM, signal.SIGHUP):  # as a job in the background may not
            signal.signal(heeded, signal.SIG_DFL)
        run_jobs(partial(long_work, write_end), range(2), 2, unit="", doing="", after_a_death="")
        os._exit(0)
    os.close(write_end)
    for _ in range(2):
        assert os.read(read_end, 1) == b"."
    os.kill(owner, number)
    assert os.waitstatus_to_exitcode(os.waitpid(owner, 0)[1]) == -number
    # The pipe is closed when the last of them has ended.
    assert select.select([read_end], [], [], 15)[0]
    assert os.read(read_end, 1) == b""
    os.close(read_end)
