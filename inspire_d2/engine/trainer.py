"""Training and scoring a model from a LazyConfig with Detectron2's trainer and hooks."""

import functools
import json
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, MutableSequence
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import hooks
from detectron2.engine.defaults import create_ddp_model
from detectron2.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
    print_csv_format,
)
from detectron2.utils import comm
from detectron2.utils.events import TensorboardXWriter
from omegaconf import DictConfig
from torch import nn

from ..errors import CheckpointError, InputError
from .build import build
from .checkpoint import ReportingCheckpointer
from .checkpoint_files import replace_file
from .checkpointing import CheckpointHook
from .evaluation_hook import EvaluationHook
from .failures import dead_worker, tells_of_memory
from .hooks import EarlyEstimate, MemoryMonitor, MetricsWriter, ProgressWriter
from .norms import fit_sync_batch_norm
from .optim import check_kind, hyperparameters, keep_hyperparameters, scale_lr
from .precision import make_trainer
from .resume import MetricLine, MetricWindow, ReproducibleStream, mend_metrics

__all__ = ["evaluate", "run_evaluation", "run_training", "without_nan"]

logger = logging.getLogger(__name__)


def run_training(
    cfg: DictConfig, *, resume: bool = False, ready: Callable[[], None] | None = None
) -> OrderedDict[str, Any]:
    """Train a config's model, scoring it every ``train.eval_period`` iterations and at the end.

    With ``resume``, go on at the iteration after the run's last checkpoint, if it has one. The main
    process calls ``ready`` when all is built and loaded, before the first iteration.
    Returns the last evaluation's results on the main process, {} elsewhere.
    """
    cfg.optimizer.lr = scale_lr(cfg)
    model = _build_model(cfg)
    if cfg.train.get("channels_last"):  # configs saved before it was there lack it
        model = model.to(memory_format=torch.channels_last)
    logger.info("%s", _describe(model))
    optimizer = build(_with_model(cfg.optimizer, model), "optimizer")
    optimizer.register_load_state_dict_pre_hook(check_kind)
    loader = build(cfg.dataloader.train, "dataloader.train")
    model = create_ddp_model(model, **_ddp_options(cfg))
    trainer = make_trainer(
        model, loader, optimizer, amp=cfg.train.amp.enabled, device=cfg.train.device
    )
    checkpointer = ReportingCheckpointer(
        model,
        cfg.train.output_dir,
        allow_partial=cfg.train.checkpoint.allow_partial,
        trainer=trainer,
    )
    results: OrderedDict[str, Any] = OrderedDict()

    checkpoints = CheckpointHook(checkpointer, **cfg.train.checkpointer)
    line = MetricLine(cfg.train.log_period, cfg.train.max_iter)

    def score() -> Mapping[str, Any]:
        results.clear()
        with checkpoints.interruptible():
            results.update(evaluate(cfg, model))
        return results

    scoring = EvaluationHook(cfg.train.eval_period, score, folder=cfg.train.output_dir)
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            MemoryMonitor(cfg.train.device),
            ReproducibleStream(loader, cfg.train.seed),
            MetricWindow(),
            line,
            hooks.LRScheduler(scheduler=build(cfg.lr_multiplier, "lr_multiplier")),
            checkpoints,
            scoring,
        ]
    )
    wanted = hyperparameters(optimizer)
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    if checkpointer.resumed:
        keep_hyperparameters(optimizer, wanted)
    # A checkpoint holds the iteration that it finished.
    start = trainer.iter + 1 if checkpointer.resumed else 0
    if start > cfg.train.max_iter:
        raise InputError(
            f"--resume: the run has been trained for {start} iterations already, more than "
            f"train.max_iter={cfg.train.max_iter}; to score an earlier checkpoint take --eval-only."
        )
    if comm.is_main_process():
        if ready is not None:
            ready()
        mend_metrics(os.path.join(cfg.train.output_dir, "metrics.json"), start, line)
        period = cfg.train.log_period
        metrics = MetricsWriter(os.path.join(cfg.train.output_dir, "metrics.json"))
        scoring.write = functools.partial(metrics.write_scores, period, cfg.train.max_iter)
        writers = [
            ProgressWriter(cfg.train.max_iter, cfg.dataloader.train.total_batch_size),
            metrics,
            TensorboardXWriter(cfg.train.output_dir),
        ]
        trainer.register_hooks(
            [EarlyEstimate(period), hooks.PeriodicWriter(writers, period=period)]
        )
    trainer.train(start, cfg.train.max_iter)
    return results


def run_evaluation(
    cfg: DictConfig, checkpoint: str, *, ready: Callable[[], None] | None = None
) -> OrderedDict[str, Any]:
    """Score a checkpoint, all of whose tensors must fit, on the config's test set.

    The main process calls ``ready`` when all is predicted, before it writes results.

    Raises:
        CheckpointError: it does not fit, or cannot be read.
    """
    model = _build_model(cfg)
    allow_partial = cfg.train.checkpoint.allow_partial
    try:
        ReportingCheckpointer(model, allow_partial=allow_partial, complete=True).load(checkpoint)
    except InputError as error:
        raise CheckpointError(str(error)) from error
    tta = cfg.train.get("tta")  # configs saved before it was there lack it
    if tta and tta.enabled:
        # It resizes images itself, from their own size.
        cfg.dataloader.test.mapper.augmentations = []
        tta.wrapper.model = model
        return evaluate(cfg, build(tta.wrapper, "train.tta.wrapper"), ready)
    return evaluate(cfg, create_ddp_model(model, **_ddp_options(cfg)), ready)


def evaluate(
    cfg: DictConfig, model: nn.Module, ready: Callable[[], None] | None = None
) -> OrderedDict[str, Any]:
    """Score a model on ``dataloader.test``; write ``evaluation.json`` beside its other results.

    When all is predicted, before any result is written, the main process removes the last scoring's
    ``evaluation.json``, which then is not of what lies beside it, and calls ``ready``.
    Returns {task: {metric: value}} on the main process, {} elsewhere.
    """
    path = os.path.join(cfg.train.output_dir, "evaluation.json")

    def begin() -> None:
        Path(path).unlink(missing_ok=True)
        if ready is not None:
            ready()

    loader = build(cfg.dataloader.test, "dataloader.test")
    evaluator = build(cfg.dataloader.evaluator, "dataloader.evaluator")
    if evaluator is None or isinstance(evaluator, MutableSequence):
        evaluator = DatasetEvaluators(evaluator or [])
    try:
        results = inference_on_dataset(model, loader, _Announced(evaluator, begin))
    except (RuntimeError, MemoryError) as error:
        worker = dead_worker(error)
        if worker or tells_of_memory(error):
            what = f"the data loader's worker process {worker}" if worker else "memory ran out"
            raise InputError(
                f"{what} while scoring: lower dataloader.test.num_workers or the images' "
                "sizes in dataloader.test.mapper. The checkpoints before it are kept; a training "
                "goes on from the last with --resume."
            ) from error
        raise
    if not comm.is_main_process():
        return OrderedDict()
    print_csv_format(results)
    text = json.dumps(without_nan(results), indent=2, allow_nan=False)
    replace_file(path, text)
    return results


class _Announced(DatasetEvaluator):
    """An evaluator that tells the main process before it evaluates."""

    def __init__(self, evaluator: DatasetEvaluator, tell: Callable[[], None]) -> None:
        self._evaluator, self._tell = evaluator, tell
        self.reset, self.process = evaluator.reset, evaluator.process

    def evaluate(self) -> Any:
        if comm.is_main_process():
            self._tell()
        return self._evaluator.evaluate()


def _build_model(cfg: DictConfig) -> nn.Module:
    """Build a config's model, on its device, with norms that run there."""
    device = torch.device(cfg.train.device)
    model = build(cfg.model, "model")
    return fit_sync_batch_norm(model, on_gpu=device.type == "cuda").to(device)


def _with_model(optimizer: DictConfig, model: nn.Module) -> DictConfig:
    """Hand the model to the optimizer's parameter groups, as Detectron2's configs expect."""
    optimizer.params.model = model
    return optimizer


def _ddp_options(cfg: DictConfig) -> dict[str, Any]:
    """DistributedDataParallel's options; on the CPU it takes no device."""
    options = dict(cfg.train.ddp)
    if torch.device(cfg.train.device).type == "cpu":
        options["device_ids"] = None
        # Else gradients are bucketed anew after the first iteration of every start, and three or
        # more processes then add them in another order than a run that was never stopped.
        options["find_unused_parameters"] = True
    return options


def _describe(model: nn.Module) -> str:
    """Say how large a model is, in one line."""
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    backbone = type(getattr(model, "backbone", model)).__name__
    return (
        f"{type(model).__name__} with {backbone}: {total / 1e6:.1f} M parameters, "
        f"{trained / 1e6:.1f} M of them trained"
    )


def without_nan(value: Any) -> Any:
    """Turn NaN, which JSON does not know (an AP over no objects), into None."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
