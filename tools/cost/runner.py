"""Measure subjects at a setting."""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence

import torch
from tqdm import tqdm

from .alternate import alternate
from .memory import ChildError, measure_peaks
from .results import Measurement, Results
from .setting import MODES, SCOPES, Setting
from .subjects import SUBJECTS
from .workload import Workload

__all__ = ["measure_memory", "measure_time", "profile", "progress"]


def available(setting: Setting, names: Sequence[str], results: Results) -> list[str]:
    """Name the subjects that the setting's scope can have; note why it cannot have the others."""
    for name in names:
        if reason := SUBJECTS[name].obstacle(setting.scope):
            results.leave_out(setting.scope, name, reason)
    return [name for name in names if not SUBJECTS[name].obstacle(setting.scope)]


def measure_time(
    setting: Setting,
    modes: Sequence[str],
    names: Sequence[str],
    rounds: int,
    warmup: int,
    results: Results,
) -> Iterator[Measurement]:
    """Time the subjects in alternation, mode by mode; yield each measurement when it is done.

    It stands in ``results`` from its first round on, so that an interruption loses no round. The
    first round of the warm-up also finds out which subjects work.
    """
    workload = Workload(setting)
    models = {name: workload.build(SUBJECTS[name]) for name in available(setting, names, results)}
    for mode in modes:
        steps = _working_steps(workload, models, mode, results)
        found = Measurement(setting, mode, "time", {name: [] for name in steps})
        results.measurements.append(found)
        synchronize = torch.cuda.synchronize if setting.device == "cuda" else None
        timed = alternate(steps, rounds, warmup - 1, synchronize=synchronize)
        total = (warmup - 1 + rounds) * len(steps)
        for index, name, seconds in progress(timed, total, str(found)):
            if index >= 0:
                found.values[name].append(seconds)
        yield found


def _working_steps(
    workload: Workload, models: dict[str, torch.nn.Module], mode: str, results: Results
) -> dict[str, Callable[[], None]]:
    """Run each subject once; one that fails, for want of memory or in the compiler, is left out."""
    steps = {}
    for name, model in models.items():
        step = workload.step(model, mode)
        try:
            step()
        except RuntimeError as error:
            model.zero_grad(set_to_none=True)
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
            what = f"its {MODES[mode]} failed at {workload.setting}"
            results.leave_out(
                workload.setting.scope, name, f"{what}: {type(error).__name__}: {reason}"
            )
        else:
            steps[name] = step
    return steps


def measure_memory(
    setting: Setting, names: Sequence[str], children: int, threads: int, results: Results
) -> Iterator[Measurement]:
    """Measure each subject's peaks in processes of its own; yield a measurement for each mode."""
    found = {mode: Measurement(setting, mode, "memory", {}) for mode in MODES}
    results.measurements.extend(found.values())
    names = available(setting, names, results)
    runs = [name for _ in range(children) for name in names]
    for name in progress(runs, len(runs), f"{SCOPES[setting.scope]}: peak memory"):
        try:
            peaks = measure_peaks(setting, name, threads)
        except ChildError as error:
            results.leave_out(setting.scope, name, f"its memory was not measured: {error}")
            continue
        for mode, peak in peaks.items():
            found[mode].values.setdefault(name, []).append(peak)
    yield from found.values()


def profile(setting: Setting, mode: str, name: str, rows: int = 25) -> str:
    """Return torch.profiler's table of one warm step: the operations that take most time."""
    workload = Workload(setting)
    step = workload.step(workload.build(SUBJECTS[name]), mode)
    step()
    gc.collect()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if setting.device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        step()
    order = "self_cuda_time_total" if setting.device == "cuda" else "self_cpu_time_total"
    return profiler.key_averages().table(sort_by=order, row_limit=rows)


def progress(items: object, total: int, what: str) -> tqdm:
    """Show on stderr how much of some items is done."""
    # Where nobody watches, a line now and then is enough.
    interval = 0.5 if sys.stderr.isatty() else 30
    return tqdm(items, total=total, desc=what, mininterval=interval, leave=False, file=sys.stderr)
