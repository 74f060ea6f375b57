"""What of a model goes into an exported graph, and how it is written.

Shape shorthand in this module: N detections, K classes, h, w (the model's input), M (masks' side).
"""

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import torch
from detectron2.data import transforms as T
from detectron2.export import TracingAdapter
from detectron2.modeling import GeneralizedRCNN, PanopticFPN, RetinaNet, SemanticSegmentor
from torch import nn

from inspire_d2.errors import InputError
from inspire_d2.modeling.isa import DeformAlign

__all__ = ["OPSET", "describe", "require", "trace", "write_onnx", "write_torchscript"]

OPSET = 17  # from 16 on, ROIAlign is Detectron2's
INPUT = "image"


def describe(predictor: Any) -> dict[str, Any]:
    """Return what a program must know to use the graph: resizing, order of channels, outputs.

    Raises:
        InputError: the model, or what its config does to an image, cannot be exported.
    """
    model = predictor.model
    about = {"channel_order": predictor.model_order, "resize": _resize(predictor.augmentations)}
    if isinstance(model, SemanticSegmentor):
        loss = getattr(model.sem_seg_head, "loss", None)
        regions = hasattr(loss, "probabilities")
        softmax = loss.exclusive if regions else True
        # Of two classes, one is the background; of more, none is known to be.
        background = softmax if regions else predictor.cfg.model.sem_seg_head.num_classes == 2
        return about | {
            "kind": "segmenter",
            "activation": "softmax" if softmax else "sigmoid",
            "background": bool(background),
            "outputs": ["logits"],
        }
    # Panoptic FPN is a GeneralizedRCNN that returns more than instances.
    if isinstance(model, GeneralizedRCNN | RetinaNet) and not isinstance(model, PanopticFPN):
        has_masks = getattr(getattr(model, "roi_heads", None), "mask_on", False)
        outputs = ["boxes", "scores", "classes", *(["masks"] if has_masks else [])]
        return about | {
            "kind": "detector",
            "classes": predictor.categories,
            "outputs": outputs,
        }
    raise InputError(
        f"{type(model).__name__} cannot be exported: detectors and semantic segmenters can."
    )


def _resize(augmentations: Any) -> dict[str, int]:
    """Return the rule by which an image is resized; raise InputError where it is no such rule."""
    steps = list(augmentations.augs)
    if len(steps) == 1:
        step = steps[0]
        if isinstance(step, T.ResizeShortestEdge) and len(set(step.short_edge_length)) == 1:
            return {"short_edge": int(step.short_edge_length[0]), "max_size": int(step.max_size)}
        if isinstance(step, T.Resize):
            return {"height": int(step.shape[0]), "width": int(step.shape[1])}
    raise InputError(
        "dataloader.test.mapper.augmentations must be one ResizeShortestEdge of one size, or one "
        f"Resize, to be exported, not {', '.join(type(step).__name__ for step in steps) or 'none'}."
    )


def trace(predictor: Any, image: torch.Tensor) -> TracingAdapter:
    """Wrap a model, on the CPU, as a function of one image, float32 (3, h, w) in 0..255.

    Of a detector it returns boxes (N, 4) and scores (N,), classes (N,) and, with a mask head, masks
    (N, M, M) in the input's pixels; of a segmenter logits (K, h, w).
    """

    def run(model: nn.Module, inputs: list[dict[str, torch.Tensor]]) -> tuple[torch.Tensor, ...]:
        if isinstance(model, SemanticSegmentor):
            return (model(inputs)[0]["sem_seg"],)
        if isinstance(model, GeneralizedRCNN):
            found = model.inference(inputs, do_postprocess=False)[0]
        else:
            found = model(inputs)[0]["instances"]
        outputs = (found.pred_boxes.tensor, found.scores, found.pred_classes)
        return (*outputs, found.pred_masks[:, 0]) if found.has("pred_masks") else outputs

    for parameter in predictor.model.parameters():
        parameter.requires_grad_(False)  # they are constants of the graph
    # In eval mode, as torch.onnx.export would else set the model to training when it is done.
    return TracingAdapter(predictor.model, [{INPUT: image}], inference_func=run).eval()


def write_torchscript(adapter: TracingAdapter, path: Path) -> None:
    """Write a graph as TorchScript, which needs torchvision to be imported where it is loaded."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of what tracing takes as constant, which is checked
        # The second trace, of the check, would compare random numbers of fresh memory.
        traced = torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)
        traced.save(str(path))


def write_onnx(adapter: TracingAdapter, path: Path, outputs: list[str]) -> None:
    """Write a graph as ONNX of :data:`OPSET`, for images of any height and width.

    Raises:
        InputError: the packages are missing, or there is a part that ONNX has no operator for.
    """
    require("onnx", "onnxruntime")
    if any(isinstance(module, DeformAlign) for module in adapter.model.modules()):
        raise InputError(
            'ONNX has no deformable convolution, which align="deform" needs: export it as '
            "torchscript."
        )
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                adapter,
                adapter.flattened_inputs,
                str(path),
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=outputs,
                dynamic_axes={INPUT: {1: "height", 2: "width"}} | _free_axes(outputs),
                dynamo=False,
            )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise InputError(
                f"ONNX lacks something that this model needs ({reason}): export it as torchscript."
            ) from error


def _free_axes(outputs: list[str]) -> dict[str, dict[int, str]]:
    if outputs == ["logits"]:
        return {"logits": {1: "height", 2: "width"}}
    return {name: {0: "detections"} for name in outputs}


def require(*packages: str) -> None:
    """Raise InputError where a package is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"to export ONNX, {' and '.join(missing)} must be installed: pip install "
            f"{' '.join(missing)}"
        )
