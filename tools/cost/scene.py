"""Synthetic images, ground truth and proposals: the same for every subject of a seed.

With random weights, what an RPN proposes and a box head keeps depends on the features, and the
work of the heads on that. So that all subjects do the same work, as much as a trained detector
does, their proposals come from here.
"""

import torch
from detectron2.structures import BitMasks, Boxes, Instances

__all__ = ["make_inputs", "make_proposals"]

OBJECTS = 8  # an image; COCO has 7.3 in the mean
NUM_CLASSES = 80
# RPN hands on 1000 an image. 256 lie on objects, so that the heads always find the 128 foreground
# boxes that they sample at most.
PROPOSALS, ON_OBJECTS = 1000, 256


def make_inputs(
    height: int, width: int, batch: int, generator: torch.Generator
) -> list[dict[str, object]]:
    """Make images of noise (3, H, W), 0 to 255, each with objects: boxes with elliptic masks."""
    inputs = []
    for _ in range(batch):
        image = 255 * torch.rand(3, height, width, generator=generator)
        instances = Instances((height, width))
        boxes = _random_boxes(OBJECTS, height, width, generator)
        instances.gt_boxes = Boxes(boxes)
        instances.gt_classes = torch.randint(NUM_CLASSES, (OBJECTS,), generator=generator)
        instances.gt_masks = BitMasks(_ellipses(boxes, height, width))
        inputs.append({"image": image, "height": height, "width": width, "instances": instances})
    return inputs


def make_proposals(
    inputs: list[dict[str, object]], generator: torch.Generator, device: str
) -> list[Instances]:
    """Propose boxes around each image's objects and at random, as many as an RPN hands on."""
    proposals = []
    for record in inputs:
        height, width = record["height"], record["width"]
        objects = record["instances"].gt_boxes.tensor.repeat(ON_OBJECTS // OBJECTS, 1)
        # A side moved by up to 5% of its length leaves an IoU above 0.8.
        sides = (objects[:, 2:] - objects[:, :2]).repeat(1, 2)
        near = objects + sides * (torch.rand(objects.shape, generator=generator) - 0.5) * 0.1
        far = _random_boxes(PROPOSALS - ON_OBJECTS, height, width, generator)
        boxes = Boxes(torch.cat([near, far]))
        boxes.clip((height, width))
        instances = Instances((height, width), proposal_boxes=boxes)
        instances.objectness_logits = torch.randn(PROPOSALS, generator=generator)
        proposals.append(instances.to(device))
    return proposals


def _random_boxes(count: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Draw boxes (count, 4), x0 y0 x1 y1, whose sides are 1/16 to 1/2 of the image's."""
    size = torch.tensor([width, height])
    sides = size * 2 ** -(1 + 3 * torch.rand(count, 2, generator=generator))
    corners = (size - sides) * torch.rand(count, 2, generator=generator)
    return torch.cat([corners, corners + sides], dim=1)


def _ellipses(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Fill the ellipse inside each of the boxes (B, 4): masks (B, H, W)."""
    x0, y0, x1, y1 = boxes[:, :, None, None].unbind(dim=1)
    x = (2 * torch.arange(width) - (x0 + x1)) / (x1 - x0)
    y = (2 * torch.arange(height)[:, None] - (y0 + y1)) / (y1 - y0)
    return x**2 + y**2 < 1
