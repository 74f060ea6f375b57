"""The pyramid in use: in FPN's place, on any size, in training, in bfloat16, traced."""

import warnings
from typing import Any

import pytest
import torch
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from detectron2.modeling.backbone.regnet import AnyNet, ResBottleneckBlock, SimpleStem
from torch import nn

from inspire_d2.modeling import InspireFPN, gather

from .helpers import (
    ALIGNS,
    FEEDBACKS,
    TinyBottomUp,
    assert_close,
    assert_same_outputs,
    backward,
    gradients_missing,
    image,
    randomise,
    resnet_pyramid,
    small_norm,
    tiny_pyramid,
    tiny_resnet,
)


def tiny_regnet() -> AnyNet:
    """Detectron2's RegNet with one narrow block a stage: stem, s1..s4, strides 2..32."""
    return AnyNet(
        stem_class=SimpleStem,
        stem_width=16,
        block_class=ResBottleneckBlock,
        depths=[1, 1, 1, 1],
        widths=[16, 16, 32, 32],
        group_widths=[4, 4, 8, 8],
        strides=[2, 2, 2, 2],
        bottleneck_ratios=[1.0] * 4,
        se_ratio=0.0,
        activation_class=nn.ReLU,
        norm=small_norm,
        out_features=["stem", "s1", "s2", "s3", "s4"],
    )


@pytest.mark.parametrize("block", ["max_pool", "p6p7", None])
def test_attributes_are_those_of_fpn(block: str | None) -> None:
    def build(cls: type[FPN]) -> FPN:
        blocks = {"max_pool": LastLevelMaxPool, "p6p7": lambda: LastLevelP6P7(128, 8)}
        top_block = blocks[block]() if block else None
        return tiny_pyramid(tiny_resnet(), cls, top_block=top_block, square_pad=64)

    fpn, module = build(FPN), build(InspireFPN)
    assert isinstance(module, FPN)
    assert module.output_shape() == fpn.output_shape()
    assert module.size_divisibility == fpn.size_divisibility == 32
    assert module.padding_constraints == fpn.padding_constraints == {"square_size": 64}
    x = image(1, 3, 64, 96)
    shapes = {name: value.shape for name, value in fpn(x).items()}
    assert {name: value.shape for name, value in module(x).items()} == shapes


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("align", ALIGNS)
@pytest.mark.parametrize("ise", [True, False])
@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_every_parameter_gets_a_gradient(steps: int, align: str, ise: bool, feedback: str) -> None:
    # Distributed training stops at a parameter that takes no part.
    module = resnet_pyramid(steps=steps, align=align, ise=ise, feedback=feedback)
    randomise(module, 9).train()
    backward(module(image(2, 3, 64, 96)))
    assert not gradients_missing(module)


@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_every_parameter_takes_part_from_the_beginning(feedback: str) -> None:
    # With the initial zeros a gradient may be zero, but must be there.
    module = resnet_pyramid(feedback=feedback).train()
    backward(module(image(1, 3, 64, 64)))
    assert not gradients_missing(module, nonzero=False)


@pytest.mark.parametrize("align", ALIGNS)
@pytest.mark.parametrize("size", [(75, 101), (33, 97), (129, 40)])
def test_any_size_works_and_is_rounded_up(size: tuple[int, int], align: str) -> None:
    module = resnet_pyramid(align=align)
    outputs = randomise(module, 1)(image(1, 3, *size))
    for level in range(2, 7):
        expected = [-(-side // 2**level) for side in size]
        assert list(outputs[f"p{level}"].shape[2:]) == expected


@pytest.mark.parametrize("names", [2, 3, 4, 5])
def test_regnet_of_any_number_of_levels(names: int) -> None:
    bottom_up = tiny_regnet()
    in_features = ["stem", "s1", "s2", "s3", "s4"][-names:]
    module = randomise(InspireFPN(bottom_up, in_features, 8), 2).train()
    outputs = module(image(1, 3, 64, 75))
    assert list(outputs) == [f"p{j}" for j in range(6 - names, 6)]
    backward(outputs)
    assert not gradients_missing(module)


def test_training_mode_at_batch_one_changes_nothing() -> None:
    module = randomise(resnet_pyramid(), 3)
    x = image(1, 3, 64, 64)
    assert_same_outputs(module.train()(x), module.eval()(x), 1e-9)


@pytest.mark.parametrize("align", ALIGNS)
@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_bfloat16_autocast(align: str, feedback: str) -> None:
    module = randomise(resnet_pyramid(align=align, feedback=feedback), 4)
    # Flow of whole pixels amplifies rounding: keep it small for the comparison.
    for name, parameter in module.named_parameters():
        if ".offset." in name:
            parameter.data.mul_(0.1)
    x = image(2, 3, 64, 64)
    exact = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = module(x)
        # Smoothly summed: a maximum over noise would be unstable.
        loss = sum(value.float().pow(2).mean() for value in outputs.values())
    loss.backward()
    for name, value in outputs.items():
        assert torch.isfinite(value).all()
        error = (value.float() - exact[name]).pow(2).mean().sqrt()
        assert error < 0.1 * exact[name].pow(2).mean().sqrt()
    assert not gradients_missing(module)
    for name, parameter in module.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("align", ALIGNS)
def test_model_in_bfloat16(align: str) -> None:
    # Inference with half-precision weights, without autocast.
    module = randomise(resnet_pyramid(align=align), 4).bfloat16()
    outputs = module(image(1, 3, 64, 64).bfloat16())
    for value in outputs.values():
        assert value.dtype == torch.bfloat16
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("align", ALIGNS)
def test_traced_pyramid_is_the_same(align: str) -> None:
    module = randomise(resnet_pyramid(align=align), 5).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer, about shapes
        traced = torch.jit.trace(module, image(1, 3, 64, 96), strict=False)
        for x in (image(1, 3, 64, 96, seed=1), image(2, 3, 128, 64, seed=2)):
            outputs = traced(x)
            expected = module(x)
            assert set(outputs) == set(expected)
            for name, value in expected.items():
                assert_close(outputs[name], value, 1e-5)


@pytest.mark.parametrize("options", [{}, {"feedback": "separate", "align": "deform", "steps": 3}])
def test_state_goes_round(options: dict[str, Any]) -> None:
    module = randomise(resnet_pyramid(**options), 6)
    again = resnet_pyramid(**options)
    again.load_state_dict(module.state_dict(), strict=True)
    x = image(1, 3, 64, 64)
    assert_same_outputs(again(x), module(x), 1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"align": "bilinear"}, "align.*flow.*bilinear"),
        ({"feedback": "twice"}, "feedback.*shared.*twice"),
        ({"fuse_type": "max"}, "fuse_type.*sum, avg.*max"),
        ({"steps": 0}, "steps.*0"),
        ({"steps": -1}, "steps.*-1"),
        ({"steps": 1.5}, "steps.*1.5"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resnet_pyramid(**options)


@pytest.mark.parametrize("names", [[], ["stem"]])
def test_fewer_than_two_levels_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="in_features"):
        InspireFPN(TinyBottomUp(3), names, 8)


@pytest.mark.parametrize(
    ("names", "top_block", "message"),
    [
        (["stem", "other"], None, "in_features names other.*gives stem, early, mid"),
        (["stem", "mid"], None, r"strides that double.*\[2, 8\]"),
        (["mid", "early"], None, r"strides that double.*\[8, 4\]"),
        (["early", "early"], None, r"strides that double.*\[4, 4\]"),
        (["stem", "early"], LastLevelMaxPool(), "top_block reads p5.*none of p1, p2"),
        (["stem", "early"], LastLevelP6P7(8, 8), "top_block reads res5.*none of p1, p2"),
    ],
)
def test_features_that_do_not_fit_are_named(
    names: list[str], top_block: torch.nn.Module | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        InspireFPN(TinyBottomUp(3), names, 8, top_block=top_block)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("align", ALIGNS)
def test_no_images_have_empty_maps(align: str, steps: int) -> None:
    module = resnet_pyramid(align=align, steps=steps)
    shapes = {name: value.shape[1:] for name, value in module(image(1, 3, 64, 96)).items()}
    outputs = module(image(0, 3, 64, 96))
    assert {name: value.shape for name, value in outputs.items()} == {
        name: (0, *shape) for name, shape in shapes.items()
    }


def test_odd_channels_train_on_images_of_one_pixel_a_level() -> None:
    module = resnet_pyramid(out_channels=17).train()
    assert all(torch.isfinite(value).all() for value in module(image(1, 3, 32, 32)).values())


@pytest.mark.parametrize("align", ["flow", "none"])
def test_reads_of_other_devices_give_the_same_pyramid(
    align: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = randomise(resnet_pyramid(align=align), 7).double()
    x = image(2, 3, 64, 75, dtype=torch.float64)
    results = []
    for by_rows in (True, False):
        monkeypatch.setattr(gather, "_by_rows", lambda _, by_rows=by_rows: by_rows)
        module.zero_grad()
        outputs = module(x)
        sum(value.square().mean() for value in outputs.values()).backward()
        gradients = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
        results.append((outputs, gradients))
    assert_same_outputs(*(outputs for outputs, _ in results), 1e-9)
    rows, grid = (gradients for _, gradients in results)
    assert rows.keys() == grid.keys()
    largest = max(gradient.abs().max() for gradient in rows.values())
    for name, gradient in rows.items():
        assert (grid[name] - gradient).abs().max() <= 1e-9 * largest, name


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@needs_gpu
@pytest.mark.parametrize("align", ALIGNS)
def test_pyramid_on_a_gpu_is_the_cpus(align: str) -> None:
    module = randomise(resnet_pyramid(align=align), 7).double()
    x = image(2, 3, 64, 75, dtype=torch.float64)
    expected = module(x)
    outputs = {name: value.cpu() for name, value in module.cuda()(x.cuda()).items()}
    assert_same_outputs(outputs, expected, 1e-9)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("align", ALIGNS)
def test_pyramid_trains_in_half_precision_on_a_gpu(align: str, dtype: torch.dtype) -> None:
    module = randomise(resnet_pyramid(align=align), 7).cuda()
    x = image(2, 3, 64, 75).cuda()
    gradients = []
    for half in (False, True):
        module.zero_grad()
        with torch.autocast("cuda", dtype, enabled=half):
            outputs = module(x)
        sum(value.float().square().mean() for value in outputs.values()).backward()
        gradients.append({name: value.grad for name, value in module.named_parameters()})
    for name, expected in gradients[0].items():
        if expected is not None and expected.norm() > 1e-3:  # less is rounding alone
            assert (
                torch.nn.functional.cosine_similarity(
                    gradients[1][name].flatten(), expected.flatten(), dim=0
                )
                > 0.8
            ), name
