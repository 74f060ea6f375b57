"""What is told of a run's length before the first line of progress."""

import logging
from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage

from inspire_d2.engine.hooks import EarlyEstimate


@pytest.mark.parametrize(("seconds", "told"), [(4.0, "0:06:28 left"), (0.5, None)])
def test_slow_runs_tell_early_how_long_they_take(
    seconds: float, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "detectron2")
    hook = EarlyEstimate(period=20)
    with EventStorage() as storage:
        hook.trainer = SimpleNamespace(storage=storage, iter=0, max_iter=100)
        hook.after_step()  # the timer has nothing yet
        assert not caplog.messages
        for hook.trainer.iter in (2, 3, 4):
            storage.put_scalar("time", seconds)
            hook.after_step()
    assert len(caplog.messages) == (told is not None)
    if told:  # 97 iterations of 4 s
        assert told in caplog.messages[0] and "every 20 iterations" in caplog.messages[0]
