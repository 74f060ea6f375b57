"""A signal ends a process at once or leaves a note; a launcher hands it on to its children."""

import multiprocessing
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from inspire_d2.engine.signals import (
    CODES,
    INTERRUPTED,
    RESUME_ME,
    SAME_PRESS_S,
    StopSignals,
    forward_signals,
)


@pytest.fixture
def stop() -> StopSignals:
    stop = StopSignals()
    stop.install()
    return stop


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, INTERRUPTED),
        (signal.SIGTERM, RESUME_ME),
        (signal.SIGUSR2, RESUME_ME),
        (signal.SIGHUP, RESUME_ME),
    ],
)
def test_ends_the_process_or_is_noted(stop: StopSignals, number: int, code: int) -> None:
    stop.deferred = True
    signal.raise_signal(number)
    assert stop.requested == code
    stop.deferred = False
    with pytest.raises(SystemExit) as end:
        signal.raise_signal(number)
    assert end.value.code == code


@pytest.mark.parametrize("launches", [False, True])
def test_under_nohup_a_closed_terminal_stops_nothing(launches: bool) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if launches:
        with forward_signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    else:
        StopSignals().install()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


SAVES = """
    import pathlib, sys, time
    from inspire_d2.engine.signals import stop_signals

    stop_signals.install()
    stop_signals.deferred = True
    print("ready", flush=True)
    while not stop_signals.requested:
        time.sleep(0.05)
    stop_signals.tell("to a terminal that is gone")
    pathlib.Path(sys.argv[1]).touch()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pseudo-terminals differ")
def test_a_terminal_that_closes_leaves_time_to_save(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", textwrap.dedent(SAVES), str(tmp_path / "saved")]
    # The first terminal that the leader of a session opens becomes the session's.
    name = os.ttyname(theirs)
    open_it = f"import os; os.open({name!r}, os.O_RDWR); os.execvp({command[0]!r}, {command!r})"
    with subprocess.Popen(
        [sys.executable, "-c", open_it],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        said = b""
        while not said.endswith(b"\n"):  # else the write of it may fail
            said += os.read(ours, 1000)
        assert said.strip() == b"ready"
        os.close(ours)
        process.wait(60)
    assert (tmp_path / "saved").exists()


def test_ctrl_c_outweighs_other_signals(stop: StopSignals) -> None:
    stop.deferred = True
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    assert stop.requested == INTERRUPTED


def test_a_process_that_is_ending_goes_on_with_that(stop: StopSignals) -> None:
    stop.ending = True
    assert not stop.wait(0.1)
    signal.raise_signal(signal.SIGTERM)
    assert not stop.requested
    assert stop.wait(600)


def test_a_forked_worker_is_left_alone(stop: StopSignals) -> None:
    child = os.fork()
    if not child:
        for number in CODES:
            os.kill(os.getpid(), number)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


WAITS = """
    import signal, sys, time
    from inspire_d2.engine.signals import stop_signals
    stop_signals.install()
    stop_signals.deferred = True
    print("ready", flush=True)
    while True:
        time.sleep(0.05)
"""


def test_only_a_second_press_ends_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WAITS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)  # one press, from terminal and launcher
        process.send_signal(signal.SIGINT)
        time.sleep(SAME_PRESS_S * 1.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == INTERRUPTED
        said = process.stderr.read()
    assert "a checkpoint is written" in said and "interrupted twice" in said


LOADS = """
    import os, signal, torch
    from torch.utils.data import DataLoader
    from inspire_d2.engine.signals import stop_signals

    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            while True:
                yield os.getpid()

    stop_signals.install()
    stop_signals.deferred = True
    loader = iter(DataLoader(Endless(), batch_size=None, num_workers=2))
    workers = {int(next(loader)) for _ in range(20)}
    print("ready", flush=True)
    while not stop_signals.requested:
        next(loader)
    seen = {int(next(loader)) for _ in range(100)}
    print("the same" if seen == workers else "others", len(workers), flush=True)
    for worker in loader._workers:  # what ends a worker that hangs
        worker.terminate()
        worker.join(30)
        print(worker.exitcode, flush=True)
    os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="workers are not forked here")
def test_workers_live_on_when_all_processes_get_the_signal() -> None:
    command = [sys.executable, "-c", textwrap.dedent(LOADS)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, start_new_session=True, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert out.split() == ["the", "same", "2", "0", "0"], err
    assert "Traceback" not in err


STARTS = """
    import os, subprocess, sys
    from inspire_d2.engine.signals import stop_signals

    stop_signals.install()
    ask = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []) == set())"
    subprocess.run([sys.executable, "-c", ask], preexec_fn=os.getpid, check=True)
"""


def test_programs_that_a_training_starts_hear_signals() -> None:
    # With preexec_fn they are forked, as workers are.
    command = [sys.executable, "-c", textwrap.dedent(STARTS)]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "True\n"


def _note_signals(connection: multiprocessing.connection.Connection, wait: bool) -> None:
    if wait:
        # As while its imports last; then what came meanwhile is heard.
        connection.send("starting")
        connection.recv()
    stop = StopSignals()
    stop.deferred = True
    stop.install()
    connection.send("ready")
    while not stop.requested:
        time.sleep(0.02)
    connection.send(stop.requested)


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_launcher_hands_signals_on(number: int, early: bool) -> None:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    with forward_signals() as asked:
        child = context.Process(target=_note_signals, args=(theirs, early))
        child.start()
        assert ours.recv() == ("starting" if early else "ready")
        os.kill(os.getpid(), number)
        if early:
            time.sleep(0.5)
            assert child.is_alive()
            ours.send("go on")
            assert ours.recv() == "ready"
        assert ours.poll(30) and ours.recv() == CODES[signal.Signals(number)]
        child.join()
    assert asked.requested == CODES[signal.Signals(number)]


def test_launcher_puts_back_what_was() -> None:
    before = [signal.getsignal(number) for number in CODES]
    with forward_signals():
        assert [signal.getsignal(number) for number in CODES] != before
    assert [signal.getsignal(number) for number in CODES] == before
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(CODES)


FIRST_SPAWN = """
    import multiprocessing, signal
    from inspire_d2.engine.signals import CODES, forward_signals

    def tell(connection):
        connection.send(signal.pthread_sigmask(signal.SIG_BLOCK, []))

    if __name__ == "__main__":
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        with forward_signals():
            child = context.Process(target=tell, args=(theirs,))
            child.start()
            print(set(CODES) <= ours.recv())
            child.join()
"""


def test_children_begin_with_signals_blocked_the_first_too(tmp_path: Path) -> None:
    script = tmp_path / "spawns.py"
    script.write_text(textwrap.dedent(FIRST_SPAWN))
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=env)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_stop_outweighs_what_it_breaks(stop: StopSignals, swallowed: bool) -> None:
    stop.install()
    with pytest.raises(SystemExit) as ended, stop.outweigh_errors():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except SystemExit as error:
            if not swallowed:
                raise AttributeError("half an object") from error
    assert ended.value.code == RESUME_ME


def test_an_error_without_a_stop_stays_one(stop: StopSignals) -> None:
    with pytest.raises(AttributeError), stop.outweigh_errors():
        raise AttributeError("an object")
