"""Counting a model's multiply-adds and activations, with the operators that fvcore leaves out."""

import math
from collections import Counter
from typing import Any

from detectron2.utils.analysis import FlopCountAnalysis
from fvcore.nn import ActivationCountAnalysis
from torch import nn

__all__ = ["count_activations", "count_flops"]


def _shape(value: Any) -> list[int]:
    return value.type().sizes()


def _embedding_bag(inputs: list[Any], outputs: list[Any]) -> int:
    """Each index takes a row of the table (rows, d), multiplies it by a weight and adds it up."""
    table, indices = _shape(inputs[0]), _shape(inputs[1])
    return math.prod(indices) * table[1]


def _grid_sampler(inputs: list[Any], outputs: list[Any]) -> int:
    """Each value put out is the weighted sum of 4 neighbours (bilinear; 8 in a volume)."""
    out = _shape(outputs[0])
    return math.prod(out) * 2 ** (len(out) - 2)


def _deform_conv2d(inputs: list[Any], outputs: list[Any]) -> int:
    """A convolution, plus 4 multiply-adds for each value that it reads between pixels.

    Per output pixel it reads channels x kernel values: shared by all output channels.
    """
    weight, out = _shape(inputs[1]), _shape(outputs[0])
    pixels = out[0] * out[2] * out[3]
    channels = _shape(inputs[0])[1]
    kernel = weight[2] * weight[3]
    return pixels * (math.prod(weight) + 4 * channels * kernel)


def _baddbmm(inputs: list[Any], outputs: list[Any]) -> int:
    """(b, n, k) times (b, k, m): b n k m; the sum with the first input is elementwise."""
    return math.prod(_shape(inputs[1])) * _shape(inputs[2])[2]


def _values_put_out(inputs: list[Any], outputs: list[Any]) -> int:
    return math.prod(_shape(outputs[0]))


def _roi_align(inputs: list[Any], outputs: list[Any]) -> int:
    """Each value is an average of sampled points, of 4 neighbours each.

    With an adaptive number of points (sampling_ratio 0) one point a bin is counted: a lower bound.
    """
    ratio = inputs[5].toIValue() if len(inputs) > 5 else 0
    return math.prod(_shape(outputs[0])) * 4 * max(1, ratio or 1) ** 2


HANDLERS = {
    "aten::embedding_bag": _embedding_bag,
    "aten::grid_sampler": _grid_sampler,
    "aten::baddbmm": _baddbmm,
    "torchvision::deform_conv2d": _deform_conv2d,
    "torchvision::roi_align": _roi_align,
}


def count_flops(model: nn.Module, inputs: Any) -> tuple[Counter, Counter]:
    """Count multiply-adds of one forward pass: (by module's name, calls not counted by operator).

    The model's own name is "". Sums, products and norms of single values count as fvcore counts
    them: elementwise operations as nothing, norms and up-sampling by what they put out.
    """
    analysis = FlopCountAnalysis(model, inputs).set_op_handle(**HANDLERS)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    return _strip(analysis.by_module()), Counter(analysis.unsupported_ops())


def count_activations(model: nn.Module, inputs: Any) -> Counter:
    """Count the values that convolutions and linear layers put out, by module's name."""
    from detectron2.export import TracingAdapter

    wrapper = TracingAdapter(model, inputs, allow_non_tensor=True)
    analysis = ActivationCountAnalysis(wrapper, wrapper.flattened_inputs)
    analysis.set_op_handle("aten::baddbmm", _values_put_out)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    return _strip(analysis.by_module())


def _strip(counts: Counter) -> Counter:
    """Drop the name that Detectron2's tracing wraps models in."""
    stripped = Counter({"": counts[""]})
    for name, count in counts.items():
        if name.startswith("model."):
            stripped[name.removeprefix("model.")] = count
    return stripped
