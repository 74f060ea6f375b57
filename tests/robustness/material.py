"""Small models and runs, made once, that cases use."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from detectron2.config import instantiate

from inspire_d2.engine.config import load_config, save_config

__all__ = ["CHECKPOINT", "CONFIG", "NAME", "TRAINING", "with_models"]

NAME = "polyp/demo_mask_rcnn_inspire"
# Made by with_models, as bytes and text: what a run of NAME leaves behind.
CHECKPOINT: list[bytes] = []
CONFIG: list[str] = []
# One iteration on the images and annotations of the working folder
TRAINING = [
    "dataloader.train.dataset={name: hostile_train, json_file: train.json, image_root: .}",
    "dataloader.test.dataset={name: hostile_val, json_file: train.json, image_root: .}",
    "dataloader.train.total_batch_size=1",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "train.max_iter=1",
    "train.output_dir=out/run",
    "train.device=cpu",
]

Command = Callable[[Sequence[str]], object]


class Brightest(torch.nn.Module):
    """A segmenter of volumes that takes what is more than a deviation above the mean."""

    def forward(self, items: list[dict]) -> list[dict]:
        return [{"sem_seg": (i["image"][:, :1].float() > 1).float().transpose(0, 1)} for i in items]


def with_models(commands: dict[str, Command], folder: Path) -> dict[str, Command]:
    """Make the material; let predictions find loaded models, whatever --run says."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    cfg = load_config(NAME, ["train.device=cpu"])
    model = instantiate(cfg.model).eval()
    save_config(cfg, str(folder / "config.yaml"))
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    CONFIG[:] = [(folder / "config.yaml").read_text()]
    CHECKPOINT[:] = [(folder / "model_final.pth").read_bytes()]
    volumes = load_config("mri/atlas_unet_inspire"), Brightest()
    return commands | {
        "predict": partial(
            _with_model, "inspire_d2.predictor.load_trained", (cfg, model), commands["predict"]
        ),
        "predict_mri": partial(
            _with_model, "inspire_d2.engine.trained.load_trained", volumes, commands["predict_mri"]
        ),
    }


def _with_model(where: str, loaded: tuple, command: Command, words: Sequence[str]) -> None:
    with mock.patch(where, lambda *_, **__: loaded):
        command(words)
