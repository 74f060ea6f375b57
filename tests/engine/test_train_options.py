"""Options of a run that are out of range, or missing in a config of one's own, are told."""

import pytest
from omegaconf import DictConfig

from inspire_d2.engine.config import load_config
from inspire_d2.engine.train_options import check_train_options
from inspire_d2.errors import InputError

CONFIG = "configs/polyp/demo_mask_rcnn_inspire.py"


def changed(line: str) -> DictConfig:
    """Return a config that a line of one's own has changed."""
    cfg = load_config(CONFIG)
    exec(line, dict(cfg.items()))
    return cfg


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("train.checkpointer.max_to_keep = -1", "max_to_keep=-1 must be a whole number from 0 up"),
        ("train.checkpointer.max_to_keep = 1.5", "max_to_keep=1.5 must be a whole number"),
        ("train.checkpointer.period = None", "period=None must be a whole number from 1 up"),
        ("train.checkpointer = None", "train.checkpointer=None must be a mapping of the keys"),
        ("train.log_period = None", "train.log_period=None must be a whole number from 1 up"),
        ("train.max_iter = None", "train.max_iter=None must be a whole number from 1 up"),
        ("train.eval_period = None", "train.eval_period=None must be a whole number from 0 up"),
        ("train.eval_period = -1", "train.eval_period=-1 must be a whole number from 0 up"),
        ("train.seed = None", "train.seed=None must be a whole number of at most 4000000000"),
        ("train.seed = 5000000000", "train.seed=5000000000 must be a whole number of at most"),
        ("train.amp = None", "train.amp=None must be a mapping of the keys"),
        ("train.ddp = None", "train.ddp=None must be a mapping of the keys"),
        ("train.checkpoint = None", "train.checkpoint=None must be a mapping of the keys"),
        ("train.lr_scaling = dict(batch_size=4)", "must be a mapping of the keys"),
        ("train.lr_scaling.batch_size = 'abc'", "batch_size='abc' must be a whole number from 1"),
        ("train.lr_scaling.batch_size = -4", "batch_size=-4 must be a whole number from 1 up"),
        ("del dataloader.evaluator", "dataloader of the config lacks evaluator"),
        ("del dataloader['test']", "dataloader of the config lacks test"),
        ("del dataloader.train.total_batch_size", "total_batch_size=None must be a whole number"),
        ("dataloader.train.total_batch_size = '4'", "total_batch_size='4' must be a whole number"),
        ("train.max_iters = 5", "train of the config has max_iters, which nothing reads; did you "),
        ("train.amp = dict(enable=True)", "must be a mapping of the keys that"),
        ("train.amp.enable = True", "train.amp has enable, which nothing reads; did you mean ena"),
        ("train.checkpoint = {}", "train.checkpoint={} must be a mapping of the keys"),
        ("train.dist.prt = 1", "train.dist has prt, which nothing reads; did you mean port?"),
        ("train.dist = 5", "train.dist=5 must be a mapping of the keys"),
        ("train.tta = dict(enabled=True)", "train.tta.enabled=True needs train.tta.wrapper"),
        ("train.float32_precision = 'low'", "float32_precision='low': take one of highest, high"),
        ("train.ddp.static = True", "train.ddp: got an unexpected keyword argument 'static'"),
        ("train.tta = dict(enabled=True, wrapper=None)", "train.tta.enabled=True needs train.tta."),
        ("train.output_dir = 'runs/a.log'", "train.output_dir=runs/a.log is to be a folder"),
        ("del train.amp", "train of the config lacks amp: begin with configs/common/train.py"),
    ],
)
def test_what_training_cannot_do_is_told(line: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        check_train_options(changed(line))
    assert sentence in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line",
    [
        "train.seed = -1",
        "train.seed = 4_000_000_000",
        "train.eval_period = 0",
        "train.checkpointer.max_to_keep = 0",
        "del train.checkpointer.max_to_keep",
        "train.lr_scaling = None",
        "del train.lr_scaling",
        "train.cudnn_benchmark = True",
        "train.ddp.gradient_as_bucket_view = True",
        "train.dist = dict(port=5000)",
        "train.tta = dict(enabled=False)",
        "train.lr_scaling = False",
        "train.float32_precision = 'high'",
        "train.batch = 5; train.log_period = '${.batch}'",
        "train.seeds = 5; lr_multiplier.warmup_length = '${..train.seeds}'",
        "train.seeds = 5; lr_multiplier.warmup_length = '${train[seeds]}'",
        "train.warmup = 5; lr_multiplier.warmup_length = '${train.warmup}'",
        "del train.dist",
    ],
)
def test_what_training_can_do(line: str) -> None:
    check_train_options(changed(line))


def test_a_key_that_the_configs_own_code_may_use_is_told(capsys: pytest.CaptureFixture) -> None:
    check_train_options(changed("train.base_rate = 1e-3"))
    told = capsys.readouterr().err
    assert told.startswith(
        "warning: train of the config has base_rate, which nothing reads, unless"
    )
