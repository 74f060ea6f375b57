"""Signals that ask a run to stop: noted while it trains, obeyed at an iteration's end."""

import contextlib
import multiprocessing
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

__all__ = ["INTERRUPTED", "RESUME_ME", "StopSignals", "forward_signals", "stop_signals"]

# Exit codes: Ctrl-C as a shell tells it; "try again later" as sysexits.h has it.
INTERRUPTED = 130
RESUME_ME = 75

CODES = {
    signal.SIGINT: INTERRUPTED,
    signal.SIGTERM: RESUME_ME,  # of Slurm's preemption, time limit and scancel
    signal.SIGUSR2: RESUME_ME,  # of submitit, some time before them
    signal.SIGUSR1: RESUME_ME,  # what other trainers want from Slurm then
    signal.SIGHUP: RESUME_ME,  # of a terminal that closes, or a connection that breaks
}
# A terminal's Ctrl-C reaches a process by itself and through its launcher.
SAME_PRESS_S = 1.0


def _heeded() -> list[signal.Signals]:
    """Name the signals that ask this process to stop; under ``nohup`` SIGHUP does not."""
    return [n for n in CODES if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]


class StopSignals:
    """What the signals of CODES do to a process: end it, or while ``deferred`` leave a note.

    ``requested`` is the exit code asked for, 0 while there is none. A second Ctrl-C ends the
    process at once. ``farewell`` is the last thing to tell the user; with ``quiet`` another process
    does that. A process that is ``ending`` goes on with that, whatever comes but a second Ctrl-C.
    """

    def __init__(self) -> None:
        self.requested = 0
        self.deferred = False
        self.quiet = False
        self.farewell = ""
        self.ending = False
        self._woken = False
        self._pid = os.getpid()
        self._interrupted_at = 0.0

    def install(self) -> None:
        """Take over the signals, in the main thread of this process, with none noted yet."""
        self._pid = os.getpid()
        self.requested, self.ending, self._woken, self._interrupted_at = 0, False, False, 0.0
        for number in _heeded():
            signal.signal(number, self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CODES)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return  # a data loader's worker: it ends when its owner does (_shield_worker)
        now = time.monotonic()
        code = CODES[signal.Signals(number)]
        if code == INTERRUPTED:
            if self._interrupted_at and now - self._interrupted_at > SAME_PRESS_S:
                self.tell("interrupted twice: stopped at once")
                os._exit(INTERRUPTED)
            self._interrupted_at = self._interrupted_at or now
        if self.ending:
            # As when Slurm ends the other tasks of a step in which one has failed.
            self._woken = True
            return
        first = not self.requested
        self.requested = max(self.requested, code)
        if not self.deferred:
            self.farewell = "interrupted" if code == INTERRUPTED else "stopped by a signal"
            raise SystemExit(self.requested)
        if first and code == INTERRUPTED:
            self.tell("interrupted: once this iteration is done, a checkpoint is written")

    @contextlib.contextmanager
    def outweigh_errors(self) -> Iterator[None]:
        """Let a stop stay one where code that it interrupts takes it for an error of its own."""
        try:
            yield
        except Exception as error:
            if self.requested:
                raise SystemExit(self.requested) from error
            raise
        if self.requested and not self.deferred:
            raise SystemExit(self.requested)

    def wait(self, seconds: float) -> bool:
        """Sleep while ending; return at once, and True, if a signal comes."""
        end = time.monotonic() + seconds
        while not self._woken and time.monotonic() < end:
            time.sleep(0.05)
        return self._woken

    def tell(self, text: str) -> None:
        """Print a line for the user, where this process is the one to do so."""
        if text and not self.quiet:
            with contextlib.suppress(OSError):  # the terminal may be gone
                print(text, file=sys.stderr, flush=True)


# A process has one set of signals.
stop_signals = StopSignals()


@contextlib.contextmanager
def forward_signals() -> Iterator[StopSignals]:
    """Hand the signals on to this process's children, which decide what becomes of them.

    A launcher may be the only one that a signal reaches. Children begin with the signals blocked,
    so that one that comes early waits for their :meth:`StopSignals.install`. Yields a note of what
    was asked for; a second Ctrl-C kills the children.
    """
    note = StopSignals()
    # The main thread waits for the children and may not run handlers meanwhile, but whichever
    # thread a signal interrupts writes its number here.
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    thread = threading.Thread(target=_forward, args=(read_end, note), daemon=True)
    thread.start()
    handlers = {n: signal.signal(n, _leave_it_to_the_thread) for n in _heeded()}
    wakeup = signal.set_wakeup_fd(write_end)
    # Its start, at the first child's, would unblock signals again.
    multiprocessing.resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, CODES)
    try:
        yield note
    finally:
        signal.set_wakeup_fd(wakeup)
        os.close(write_end)
        thread.join()
        os.close(read_end)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CODES)


def _forward(read_end: int, note: StopSignals) -> None:
    """Send on each signal whose number can be read, until the other end of the pipe is closed."""
    interrupted_at = 0.0
    while received := os.read(read_end, 1):
        if received[0] not in set(CODES):
            continue
        number = signal.Signals(received[0])
        note.requested = max(note.requested, CODES[number])
        now, twice = time.monotonic(), False
        if number == signal.SIGINT:
            twice = bool(interrupted_at) and now - interrupted_at > SAME_PRESS_S
            interrupted_at = interrupted_at or now
        for child in multiprocessing.active_children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid or 0, signal.SIGKILL if twice else number)
        if twice:
            os._exit(INTERRUPTED)


def _leave_it_to_the_thread(number: int, frame: FrameType | None) -> None:
    """Do nothing, other than the default, which would end the process."""


def _shield_worker(_: StopSignals) -> None:
    """Let a data loader's worker heed SIGTERM from its owner alone.

    Slurm, systemd, `timeout` and others send it to all processes of a job. PyTorch has it end a
    worker, and then the owner fails in the middle of an iteration instead of saving at its end.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if isinstance(getattr(handler, "__self__", None), StopSignals):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_at_the_owners_word, args=(os.getppid(),), daemon=True).start()


def _end_at_the_owners_word(owner: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != owner:
        pass
    os._exit(0)


# Where there is no sigwaitinfo, as on macOS, workers are not forked. Programs that are started get
# no such shield, which os.register_at_fork would give to some of them.
if hasattr(signal, "sigwaitinfo"):
    multiprocessing.util.register_after_fork(stop_signals, _shield_worker)
