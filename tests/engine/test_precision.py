"""The trainer of each precision."""

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage
from torch import nn

from inspire_d2.engine.precision import make_trainer


class Probe(nn.Module):
    """A model that remembers what precision its product was made in."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))
        self.seen: list[torch.dtype] = []

    def forward(self, batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        product = torch.stack(batch) @ self.weight
        self.seen.append(product.dtype)
        return {"loss": product.float().sum()}


def train_once(amp: bool) -> Probe:
    model = Probe()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    trainer = make_trainer(model, [[torch.ones(2)]], optimizer, amp=amp, device="cpu")
    assert isinstance(trainer, SimpleTrainer)
    trainer.iter = 0
    with EventStorage(0):
        trainer.run_step()
    return model


def test_amp_on_a_cpu_is_bfloat16() -> None:
    assert train_once(amp=True).seen == [torch.bfloat16]
    assert train_once(amp=False).seen == [torch.float32]


def test_weights_stay_in_float32_and_learn() -> None:
    weight = train_once(amp=True).weight
    assert weight.dtype == torch.float32
    # d loss / d weight = 1 for each, at rate 0.5
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), 0.5))
