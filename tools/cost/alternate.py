"""Timing in alternation: every subject once in each round, so that all see the same machine."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping

__all__ = ["alternate"]


def alternate(
    steps: Mapping[str, Callable[[], None]],
    rounds: int,
    warmup: int,
    *,
    synchronize: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[tuple[int, str, float]]:
    """Run each step once a round, in order; yield (round, name, seconds) after each.

    Rounds count from -warmup: those below 0 fill caches, and are to be discarded. ``synchronize``
    waits for a device that computes in the background. Python's garbage collection runs between
    rounds, not within a step.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        for index in range(-warmup, rounds):
            gc.collect()
            for name, step in steps.items():
                if synchronize is not None:
                    synchronize()
                start = clock()
                step()
                if synchronize is not None:
                    synchronize()
                yield index, name, clock() - start
    finally:
        if enabled:
            gc.enable()
