"""Config files and overrides: what loads, and what each mistake says."""

import signal
from pathlib import Path

import pytest

from inspire_d2.engine.config import SECTIONS, is_overridden, load_config
from inspire_d2.engine.signals import RESUME_ME, stop_signals
from inspire_d2.errors import InputError

GOOD = """
from detectron2.config import LazyCall as L
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader

model = L(nn.Linear)(in_features=3, out_features=2)
dataloader = dict(train=dict(total_batch_size=4, shape=(1, 2), names=["a", "b"]))
optimizer = L(SGD)(params=None, lr=0.1)
lr_multiplier = dict(scheduler=None)
train = dict(max_iter=10, output_dir="runs/x", amp=dict(enabled=False), length="${.max_iter}")
loss = dict(regions=dict(lesion=[1]), also="${.regions}")
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "good.py"
    path.write_text(GOOD)
    return str(path)


def test_overrides_replace_values(config: str) -> None:
    cfg = load_config(
        config,
        [
            "train.max_iter=3",
            "optimizer.lr=1e-3",
            "train.amp.enabled=True",
            "dataloader.train.names=[c]",
            "dataloader.train.shape=[7,8]",
            "dataloader.train.names.0=d",
            "lr_multiplier.scheduler=anything",
        ],
    )
    assert cfg.train.max_iter == 3 and cfg.train.length == 3
    assert cfg.optimizer.lr == 0.001
    assert cfg.train.amp.enabled is True
    assert list(cfg.dataloader.train.names) == ["d"]
    assert list(cfg.dataloader.train.shape) == [7, 8]
    assert cfg.lr_multiplier.scheduler == "anything"


def test_whole_number_stands_for_a_float(config: str) -> None:
    assert load_config(config, ["optimizer.lr=1"]).optimizer.lr == 1


def test_argument_that_the_config_does_not_give_can_be_set(config: str) -> None:
    assert load_config(config, ["model.bias=False"]).model.bias is False
    assert load_config(config, ["optimizer.momentum=0.9"]).optimizer.momentum == 0.9


def test_mapping_is_merged(config: str) -> None:
    cfg = load_config(config, ["train={max_iter: 3, amp: {enabled: True}}", "model={bias: False}"])
    assert cfg.train.max_iter == cfg.train.length == 3 and cfg.train.amp.enabled is True
    assert cfg.train.output_dir == "runs/x"
    assert cfg.model.bias is False and cfg.model.in_features == 3


def test_mapping_that_is_an_argument_takes_new_keys(config: str) -> None:
    cfg = load_config(config, ["loss.regions={core: [1, 2]}"])
    assert cfg.loss.regions == {"lesion": [1], "core": [1, 2]}
    assert cfg.loss.also == cfg.loss.regions
    cfg = load_config(config, ["loss.regions={lesion: null, core: [1, 2]}"])
    assert cfg.loss.regions == {"core": [1, 2]}


def test_mapping_leaves_what_the_old_value_referred_to(config: str) -> None:
    cfg = load_config(config, ["loss.also={core: [2]}"])
    assert cfg.loss.also == {"core": [2]} and cfg.loss.regions == {"lesion": [1]}


def test_mapping_with_another_target_has_its_arguments(config: str) -> None:
    cfg = load_config(config, ["optimizer={_target_: torch.optim.AdamW, eps: 1e-6, lr: 1}"])
    assert cfg.optimizer == {"_target_": "torch.optim.AdamW", "params": None, "lr": 1, "eps": 1e-6}


@pytest.mark.parametrize(
    "path", ["runs/a b", "runs/x=y", "2024", "läsion (1)/ü", "a@b,c", "~/x", ""]
)
def test_text_is_taken_as_it_is(config: str, path: str) -> None:
    assert load_config(config, [f"train.output_dir={path}"]).train.output_dir == path


def test_text_for_what_has_no_value_yet_is_taken_as_it_is(config: str) -> None:
    assert load_config(config, ["lr_multiplier.scheduler=/a,b"]).lr_multiplier.scheduler == "/a,b"
    assert load_config(config, ["model.device=x,y"]).model.device == "x,y"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("--resume", "put flags before"),
        ("train.max_iter", "not of the form key=value"),
        ("=3", "not of the form key=value"),
        ("train.max_itr=3", "did you mean max_iter?"),
        ("trian.max_iter=3", "did you mean train?"),
        ("train.max_iter.x=3", "which has no keys"),
        ("model.biass=False", "did you mean bias?"),
        ("dataloader.train.names.2=c", "a list of 2"),
        ("train.max_iter=many", "expected a value of type int"),
        ("train.max_iter=1.5", "expected a value of type int"),
        ("train.max_iter=True", "expected a value of type int"),
        ("train.amp.enabled=1", "expected a value of type bool"),
        ("optimizer.lr=fast", "expected a value of type float"),
        ("dataloader.train.names=a", "expected a value of type list"),
        ("train.amp=True", "expected a value of type mapping"),
        ("train={max_itr: 3}", "train.max_itr: train has no key max_itr; did you mean max_iter?"),
        ("train={amp: {enable: True}}", "train.amp has no key enable; did you mean enabled?"),
        ("train={output_dir: /a(1)}", "within the braces, put paths in quotes"),
        ("train={amp: True}", "train.amp=True: expected a value of type mapping"),
        ("optimizer={lr: high}", "optimizer.lr=high: expected a value of type float"),
        ("optimizer={_target_: torch.optim.AdamW, momentum: 0}", "has no key momentum"),
        ("dataloader={trian: {}}", "did you mean train?"),
    ],
)
def test_wrong_override_is_refused(config: str, override: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        load_config(config, [override])
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("missing.py", None, "does not exist"),
        ("config.json", "{}", "neither a .py nor a .yaml"),
        ("broken.py", "model = (", "does not load: SyntaxError"),
        ("raises.py", "import no_such_module_here", "does not load: ModuleNotFoundError"),
        ("short.py", "train = dict(a=1)", "does not define model, dataloader"),
        ("list.yaml", "[1, 2]", "does not hold a mapping"),
        ("dangling.py", GOOD + "train['x'] = '${nowhere.y}'", "does not resolve"),
    ],
)
def test_file_that_is_no_config_is_refused(
    tmp_path: Path, name: str, text: str | None, sentence: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=sentence) as error:
        load_config(str(path))
    assert "\n" not in str(error.value)


def test_missing_config_file_option_is_told() -> None:
    with pytest.raises(InputError, match="--config-file is missing"):
        load_config("")


def test_a_flag_after_the_overrides_is_told_first() -> None:
    with pytest.raises(InputError, match="--config-file stands among the overrides: put flags"):
        load_config("", ["train.max_iter=1", "--config-file", "x.py"])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.output_dir=x", True),
        ("train={output_dir: x}", True),
        ("train={max_iter: 3}", False),
        ("train.max_iter=3", False),
        ("train=output_dir", False),
        ("model={output_dir: x}", False),
    ],
)
def test_what_is_overridden(override: str, expected: bool) -> None:
    assert is_overridden("train.output_dir", ["model.bias=False", override]) is expected


def test_sections_are_the_five() -> None:
    assert set(SECTIONS) == {"model", "dataloader", "optimizer", "lr_multiplier", "train"}


def test_what_is_taken_out_already_is_told(config: str, capsys: pytest.CaptureFixture) -> None:
    # As where a run is resumed from its own config with the override that it was begun with.
    cfg = load_config(config, ["loss.regions={core: null}"])
    assert cfg.loss.regions == {"lesion": [1]}
    told = "override loss.regions: there is no core to leave out of lesion"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("section", ["model", "optimizer", "lr_multiplier"])
def test_a_section_that_is_no_mapping(config: str, section: str) -> None:
    with pytest.raises(InputError, match=f"^{section}=None of the config file .* must be a map"):
        load_config(config, [f"{section}=null"])


def test_a_signal_while_a_config_loads_is_no_mistake_of_the_config(tmp_path: Path) -> None:
    path = tmp_path / "slow.py"
    path.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n" + GOOD)
    before = signal.getsignal(signal.SIGTERM)
    try:
        stop_signals.__init__()  # other tests may have left it deferred
        stop_signals.install()
        with pytest.raises(SystemExit) as ended:
            load_config(str(path))
    finally:
        signal.signal(signal.SIGTERM, before)
        stop_signals.__init__()
    assert ended.value.code == RESUME_ME
