"""What is recorded of the pyramid's parts, and that recording changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, ResNet
from PIL import Image

from inspire_d2.modeling import InspireFPN
from inspire_d2.visualization.pyramid import Record, crop, draw_record, record, summarize

HEIGHT, WIDTH = 60, 90  # padded to 64 x 96


def pyramid(trained: bool, **options: object) -> InspireFPN:
    """A narrow pyramid on res2..res4, as built or as if training had moved its new parts."""
    torch.manual_seed(0)
    stages = [
        ResNet.make_stage(BasicBlock, 1, stride_per_block=[s], in_channels=i, out_channels=o,
                          norm="")
        for s, i, o in ((1, 8, 8), (2, 8, 12), (2, 12, 16))
    ]  # fmt: skip
    names = ["res2", "res3", "res4"]
    bottom_up = ResNet(BasicStem(3, 8, norm=""), stages, out_features=names)
    module = InspireFPN(bottom_up, names, 16, **options)
    if trained:
        for parameter in module.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return module.eval()


def batch() -> torch.Tensor:
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    x[..., HEIGHT:, :] = 0
    x[..., WIDTH:] = 0
    return x


def recorded(module: InspireFPN) -> tuple[Record, dict[str, torch.Tensor]]:
    with record(module) as made, torch.no_grad():
        outputs = module(batch())
    return made, outputs


@pytest.mark.parametrize("align", ["flow", "none", "deform"])
@pytest.mark.parametrize("steps", [1, 3])
def test_recording_changes_nothing_and_ends(steps: int, align: str) -> None:
    module = pyramid(trained=True, steps=steps, align=align)
    with torch.no_grad():
        expected = module(batch())
    made, outputs = recorded(module)
    for name, value in expected.items():
        assert torch.equal(outputs[name], value)
    counts = {part: len(maps) for part, maps in made.items()}
    with torch.no_grad():
        module(batch())
    assert {part: len(maps) for part, maps in made.items()} == counts
    for child in module.modules():
        assert not {"gate", "flow", "_build_pyramid"} & set(vars(child))
        assert not child._forward_hooks
    assert counts["fusion2 lambda"] == counts["P4"] == steps
    assert counts.get("ssba3 lambda", 0) == steps - 1
    assert ("align2 flow" in counts) == (align == "flow")


def test_recording_ends_with_an_exception_too() -> None:
    module = pyramid(trained=True, steps=2)
    with pytest.raises(RuntimeError), record(module):
        module(torch.zeros(1, 4, 64, 64))  # four channels
    assert "_build_pyramid" not in vars(module)
    assert "gate" not in vars(module.fusion2)


def test_records_are_what_the_parts_compute() -> None:
    module = pyramid(trained=True, steps=1)
    made, _ = recorded(module)
    with torch.no_grad():
        features = module.bottom_up(batch())
        p4 = module.fpn_lateral4(features["res4"]) + module.ise4(features["res4"])
        r3 = module.fpn_lateral3(features["res3"]) + module.ise3(features["res3"])
        flow = module.align3.flow(module.align3.embed_coarse(p4), module.align3.embed_fine(r3))
        fusion = module.fusion3
        aligned = module.align3(p4, r3)
        gate = fusion.gate(fusion.embed_moving(aligned), fusion.embed_resident(r3))
        share = module.ise4(features["res4"])[0].norm() / module.fpn_lateral4(
            features["res4"])[0].norm()  # fmt: skip
    close = {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(made["P4"][0], p4[0].norm(dim=0), **close)
    torch.testing.assert_close(made["align3 flow"][0], flow[0], **close)
    torch.testing.assert_close(made["fusion3 lambda"][0], gate[0, 0], **close)
    torch.testing.assert_close(made["ise4 share"][0], share, **close)


def test_a_pyramid_at_its_beginning_does_what_fpn_does() -> None:
    made, _ = recorded(pyramid(trained=False, steps=2))
    rows = {(row[0], row[1]): row[2:] for row in summarize([made])[1:]}
    assert rows["fusion2 lambda", "1"] == ("1.000", "0.000", "1.000", "1.000")
    assert rows["ssba4 lambda", "2"] == ("1.000", "0.000", "1.000", "1.000")
    for part in ("align3 flow", "ise2 share"):
        assert rows[part, "1"] == ("0.000",) * 4
    assert rows["P3 change", "2"] == ("0.000",) * 4
    assert ("P3 change", "1") not in rows


def test_table_counts_flows_by_their_length() -> None:
    made: Record = {"align2 flow": [torch.tensor([[[3.0, 0.0]], [[4.0, 0.0]]])]}
    assert summarize([made])[1] == ("align2 flow", "1", "2.500", "2.500", "0.000", "5.000")


@pytest.mark.parametrize(
    ("part", "size", "expected"),
    [
        ("P2", (40, 40), (10, 10)),  # of an image padded to 64x64
        ("fusion4 lambda", (40, 40), (3, 3)),
        ("align2 flow", (HEIGHT, WIDTH), (15, 23)),  # the last column sees a part of the image
    ],
)
def test_padding_is_cut_off(part: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    stride = 2 ** int(part.split()[0][-1])
    padded = torch.zeros(2, *(-(-side // 32) * 32 // stride for side in size))
    assert crop(padded, part, size).shape == (2, *expected)


def test_record_is_drawn(tmp_path: Path) -> None:
    made, _ = recorded(pyramid(trained=True, steps=2))
    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    outline = np.zeros((HEIGHT, WIDTH), bool)
    outline[20:40, 20:40] = True
    draw_record(made, image, outline, outline.astype(float), tmp_path / "x.png")
    drawn = np.asarray(Image.open(tmp_path / "x.png").convert("RGB"))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 200
    draw_record(made, image, ~outline & outline, outline.astype(float), tmp_path / "y.png")
