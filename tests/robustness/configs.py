"""Configs and overrides."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .annotations import sound, to_train
from .case import CANARY, EITHER, SENTENCE, Case
from .damage import damaged
from .material import CONFIG, NAME, TRAINING

__all__ = ["cases"]

RUNS_CODE = f"touch {CANARY}"
YAML: dict[str, str] = {
    "empty": "",
    "null": "null",
    "a list": "[1, 2]",
    "a text": "polyp",
    "cut off": "a: [1, 2",
    "tabs": "a:\n\t- b",
    "cyclic": "model: &a {b: *a}",
    "deep": "[" * 20_000,
    "many laughs": "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "binary": "\x00\x01\x02",
    "tag that calls": f"a: !!python/object/apply:os.system ['{RUNS_CODE}']",
    "tag that makes": f"a: !!python/object/new:os.system ['{RUNS_CODE}']",
    "tag of a module": "a: !!python/module:antigravity",
    "tag of a name": "a: !!python/name:os.system",
    "unknown tag": "a: !mine {b: 1}",
    "sections missing": "model: {}\ntrain: {}",
    "sections empty": "{model: {}, dataloader: {}, optimizer: {}, lr_multiplier: {}, train: {}}",
    "sections numbers": "{model: 1, dataloader: 1, optimizer: 1, lr_multiplier: 1, train: 1}",
    "unresolved": "{model: '${gone}', dataloader: 1, optimizer: 1, lr_multiplier: 1, train: 1}",
    "duplicate keys": "model: 1\nmodel: 2",
}  # fmt: skip
# Lines put in front of a sound config.yaml's sections
TARGETS = (
    *("os.system", "subprocess.check_output", "builtins.exec", "torch.os.system"),
    *("torch.load", "no_such_module.Thing", "inspire_d2.modeling.InspireFPN", "5", ""),
)
OVERRIDES = (
    *("train.max_iter=-1", "train.max_iter=many", "train.max_iter=1.5", "train.max_iter=null"),
    *("train.no_such_key=1", "model.no_such_key=1", "=1", "model", "train.device=nonsense"),
    *("train.device=cuda:99", "train.seed=abc", "dataloader.train.total_batch_size=0"),
    *("dataloader.train.total_batch_size=-3", "dataloader.train.num_workers=-1"),
    *("model.backbone.steps=0", "model.backbone.steps=two", "model.backbone.align=bent"),
    *("model.backbone.in_features=[]", "model.backbone.in_features=[res9]"),
    *("model.roi_heads.num_classes=0", "model.roi_heads.num_classes=80", "optimizer.lr=nan"),
    *("optimizer.lr=-1", "train.output_dir=", "train.init_checkpoint=gone.pth"),
    *("model.pixel_mean=[1,2]", "model.pixel_std=[0,0,0]", "dataloader.test.mapper=5"),
    *("model={_target_: os.system, command: touch canary}", "train.checkpointer.period=0"),
    *("dataloader.train.dataset.name=gone_train", "train.log_period=0", "[=1", "a=${b", "x={"),
)
PYTHON: dict[str, str] = {
    "syntax": "model = (",
    "raises": "raise RuntimeError('broken config')",
    "exits": "import sys\nsys.exit(0)",
    "import of nothing": "import no_such_module",
    "empty": "",
    "NUL": "a = 1\0",
    "not UTF-8": "# \udcff",
    "sections missing": "train = {}",
    "endless recursion": "def f():\n    f()\nf()",
}


def of_file(name: str, content: str, folder: Path) -> list[str]:
    """Lay out a config file."""
    (folder / name).write_text(content, encoding="utf-8", errors="surrogateescape")
    return ["--config-file", name, "train.output_dir=out/run"]


def of_target(target: str, folder: Path) -> list[str]:
    """Lay out a run's config whose model is something else."""
    text = CONFIG[0].replace(
        "model:\n", f"model:\n  _target_: {target}\n  command: {RUNS_CODE}\n", 1
    )
    return of_file("config.yaml", text, folder) + [
        word for word in TRAINING if not word.startswith("train.output_dir")
    ]


def of_damage(number: int, seed: int, folder: Path) -> list[str]:
    """Lay out a run's config, damaged."""
    content = list(damaged(CONFIG[0].encode(), seed, number + 1))[number]
    (folder / "config.yaml").write_bytes(content)
    words = to_train(json.dumps(sound()).encode(), folder)
    return ["--config-file", "config.yaml", *words[2:]]


def of_override(override: str, folder: Path) -> list[str]:
    """Lay out a sound set, and train with one more override."""
    return [*to_train(json.dumps(sound()).encode(), folder), override]


def of_summary(file: str, content: bytes, folder: Path) -> list[str]:
    """Lay out a finished run of which one file is broken."""
    run = folder / "run"
    run.mkdir()
    (run / "config.yaml").write_text(CONFIG[0])
    (run / "evaluation.json").write_text('{"polyp": {"Dice": 0.5}}')
    (run / "metrics.json").write_text('{"iteration": 1, "time": 0.5, "memory_gb": 1.0}\n')
    (run / file).write_bytes(content)
    return ["run"]


def cases(seed: int) -> Iterator[Case]:
    """Yield them."""
    for name, content in YAML.items():
        build = partial(of_file, "config.yaml", content)
        yield Case("config.yaml", name, "train", build, SENTENCE)
    for target in TARGETS:
        yield Case("target", target or "empty", "train", partial(of_target, target), SENTENCE)
    for name, content in PYTHON.items():
        yield Case("config.py", name, "train", partial(of_file, "config.py", content), SENTENCE)
    for override in OVERRIDES:
        yield Case("override", override, "train", partial(of_override, override))
    for number in range(12):
        yield Case("damaged config", str(number), "train", partial(of_damage, number, seed))
    yield Case("config file", "none", "train", lambda _: ["--config-file", "no.py"], SENTENCE)
    yield Case("config file", NAME.upper(), "train", lambda _: ["--config-file", NAME.upper()],
               SENTENCE)  # fmt: skip
    for file in ("evaluation.json", "metrics.json", "config.yaml"):
        for name, content in (
            ("empty", b""), ("list", b"[1]"), ("text", b"a\n"), ("null", b"null"),
            ("binary", bytes(range(256))), ("numbers", b'{"polyp": 3, "time": "x"}'),
        ):  # fmt: skip
            build = partial(of_summary, file, content)
            yield Case("run to summarize", f"{file} {name}", "summarize", build, EITHER)
