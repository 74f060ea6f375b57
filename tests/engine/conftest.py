"""Settings of the tests of training."""

import signal
from collections.abc import Iterator

import pytest

from inspire_d2.engine.signals import CODES


@pytest.fixture(autouse=True)
def _as_without_nohup() -> Iterator[None]:
    """Heed SIGHUP, which tests run under nohup would have ignored; then put back what was."""
    before = {number: signal.getsignal(number) for number in CODES}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
