"""Counts against arithmetic by hand, and parts against the whole."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import instantiate
from torch import nn
from torchvision.ops import DeformConv2d, roi_align

from inspire_d2.engine.config import load_config, save_config
from inspire_d2.modeling.pixelwise import PixelwiseConv2d
from tools.analyze_model import analyze, build, main
from tools.cost.flops import count_activations, count_flops

POLYP = Path(__file__).resolve().parents[2] / "configs/polyp"


class Reader(nn.Module):
    """Runs one function on one tensor."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def embedding_bag(x: torch.Tensor) -> torch.Tensor:
    rows = torch.zeros(6, 4, dtype=torch.long)
    weights = torch.ones(6, 4)
    return F.embedding_bag(rows, x, mode="sum", per_sample_weights=weights)


def grid_sample(x: torch.Tensor) -> torch.Tensor:
    return F.grid_sample(x, torch.zeros(2, 5, 7, 2), align_corners=False)


def baddbmm(x: torch.Tensor) -> torch.Tensor:
    return torch.baddbmm(torch.zeros(2, 3, 5), torch.ones(2, 3, 4), x)


def align(x: torch.Tensor) -> torch.Tensor:
    return roi_align(x, torch.tensor([[0.0, 0, 0, 4, 4]]), 3, sampling_ratio=2)


@pytest.mark.parametrize(
    ("function", "shape", "expected"),
    [
        # 24 rows of 5 values are weighted and added
        (embedding_bag, (10, 5), 24 * 5),
        # 2 images, 3 channels, 5 x 7 pixels, from 4 neighbours each
        (grid_sample, (2, 3, 8, 8), 2 * 3 * 5 * 7 * 4),
        (baddbmm, (2, 4, 5), 2 * 3 * 4 * 5),
        # one RoI, 3 channels, 3 x 3 bins of 2 x 2 points
        (align, (1, 3, 8, 8), 3 * 9 * 4 * 4),
    ],
)
def test_operators_of_our_own(function: object, shape: tuple, expected: int) -> None:
    flops, uncounted = count_flops(Reader(function), (torch.ones(shape),))
    assert flops[""] == expected
    assert not {name for name in uncounted if "bag" in name or "sampler" in name}


def test_deformable_convolution() -> None:
    class Deform(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = DeformConv2d(4, 6, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x, torch.zeros(1, 18, 5, 5))

    flops, _ = count_flops(Deform(), (torch.ones(1, 4, 5, 5),))
    # each of 25 pixels: 6 x 4 x 9 products, and 4 x 9 reads between 4 neighbours
    assert flops[""] == 25 * (6 * 4 * 9 + 4 * 9 * 4)


def test_modules_and_activations() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    x = torch.ones(1, 3, 10, 10)
    flops, _ = count_flops(model, (x,))
    assert (flops["0"], flops["2"], flops[""]) == (100 * 216, 100 * 16, 100 * 232)
    assert count_activations(model, (x,))[""] == 800 + 200


def test_a_convolution_computed_as_a_product_counts_as_one() -> None:
    model = nn.Sequential(PixelwiseConv2d(3, 8, 1))
    x = torch.ones(1, 3, 10, 10)
    flops, _ = count_flops(model, (x,))
    assert flops["0"] == 100 * 24
    assert count_activations(model, (x,))["0"] == 800


def test_parts_add_up_and_the_pyramid_is_what_differs() -> None:
    sizes = {}
    for kind in ("plain", "inspire"):
        model = build(str(POLYP / f"semantic_fpn_r18_{kind}.py"))
        parts, _ = analyze(model, 64, 64)
        total = parts.pop("all")
        assert total.parameters == sum(p.numel() for p in model.parameters())
        for name in ("parameters", "flops", "activations"):
            assert sum(getattr(part, name) for part in parts.values()) == getattr(total, name)
        sizes[kind] = parts
    fpn, inspire = sizes["plain"], sizes["inspire"]
    assert inspire["semantic head"] == fpn["semantic head"]
    assert inspire["bottom-up"].parameters == fpn["bottom-up"].parameters
    # res3 and res4 see two inputs, stem and res2 one
    assert fpn["bottom-up"].flops < inspire["bottom-up"].flops < 2 * fpn["bottom-up"].flops
    assert {"pyramid: ISE", "pyramid: ISA", "pyramid: SSBA"} <= inspire.keys() - fpn.keys()
    model = instantiate(load_config(str(POLYP / "semantic_fpn_r18_inspire.py")).model)
    ise = sum(p.numel() for n, p in model.named_parameters() if n.startswith("backbone.ise"))
    assert inspire["pyramid: ISE"].parameters == ise
    assert inspire["other"].flops <= fpn["other"].flops  # FPN's sums are no module's
    # In ISA's two steps at least a 1x1 convolution of each embedding, 16x16 and 8x8 pixels.
    fine = [
        parameter.numel()
        for name, parameter in model.named_parameters()
        if name.startswith(("backbone.align", "backbone.fusion"))
        and name.endswith(("embed_fine.weight", "embed_resident.weight"))
    ]
    assert len(fine) == 4 and len(set(fine)) == 1
    assert inspire["pyramid: ISA"].flops > 2 * 2 * fine[0] * (16**2 + 8**2)


def test_heads_get_all_the_rois_that_the_config_keeps() -> None:
    model = build(str(POLYP / "mask_rcnn_r18_fpn.py"))
    flops, _ = count_flops(model, [{"image": torch.ones(3, 128, 128)}])
    assert model.proposal_generator.post_nms_topk[False] == 200
    assert flops["roi_heads.box_head"] == 200 * (7 * 7 * 128 * 512 + 512 * 512)
    # 100 masks: 4 convolutions at 14 x 14, then up by 2 and a class
    convolutions = 4 * 14 * 14 * 128 * 128 * 9
    assert flops["roi_heads.mask_head"] == 100 * (
        convolutions + 14 * 14 * 128 * 128 * 4 + 28 * 28 * 128
    )


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    configs = [str(POLYP / f"semantic_fpn_r18_{kind}.py") for kind in ("plain", "inspire")]
    options = ["--size", "64", "96", "--json", str(tmp_path / "sizes.json")]
    main([*configs, *options, "--set", "model.backbone.out_channels=32"])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| all |") for line in lines) == 2
    assert sum(line.startswith("Not counted:") for line in lines) == 2
    content = json.loads((tmp_path / "sizes.json").read_text())
    assert list(content) == ["semantic_fpn_r18_plain", "semantic_fpn_r18_inspire"]


def test_runs_of_one_name_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    configs = []
    for kind in ("plain", "inspire"):
        (tmp_path / kind).mkdir()
        configs.append(str(tmp_path / kind / "config.yaml"))
        save_config(load_config(str(POLYP / f"semantic_fpn_r18_{kind}.py")), configs[-1])
    main([*configs, "--size", "64", "96", "--json", str(tmp_path / "sizes.json")])
    sizes = json.loads((tmp_path / "sizes.json").read_text())
    assert list(sizes) == configs
    ratio = sizes[configs[1]]["all"]["flops"] / sizes[configs[0]]["all"]["flops"]
    assert ratio > 1.2 and f"{ratio:.2f}" in capsys.readouterr().out


PLAIN, INSPIRE = (str(POLYP / f"semantic_fpn_r18_{kind}.py") for kind in ("plain", "inspire"))
DETECTOR = str(POLYP / "mask_rcnn_r18_fpn.py")


@pytest.mark.parametrize(
    "words",
    [
        ["nowhere.py"],
        [PLAIN, "--size", "0", "9"],
        [PLAIN, "--json", "no/x.json"],
        [PLAIN, "--json", "."],
        [PLAIN, PLAIN],
        [INSPIRE, "--set", "model.backbone.align=bogus"],
        [INSPIRE, "--set", "model.backbone.steps=0"],
        [DETECTOR, "--set", "model.roi_heads.num_classes=-1"],
        [DETECTOR, "--set", "model.proposal_generator.head.in_channels=32", "--size", "64", "64"],
    ],
)
def test_wrong_input(words: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as error:
        main(words)
    assert error.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
