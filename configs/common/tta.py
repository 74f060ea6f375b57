"""Presets of test-time augmentation for `train.tta.wrapper`: which sizes, and whether flipped."""

from detectron2.config import LazyCall as L

from inspire_d2.modeling import RCNNWithTTA

# Detectron2's own (its TEST.AUG)
detectron2_scales = L(RCNNWithTTA)(
    short_edge_lengths=(400, 500, 600, 700, 800, 900, 1000, 1100, 1200),
    max_size=4000,
    flip=True,
)

# The public INSPIRE release's (configs/_base_/datasets/coco_instance.py): (1333, 800), (900, 600),
# (1200, 800), (1500, 1000), (1800, 1200), (2100, 1400), (2400, 1600), not flipped. 800 stands there
# twice, so it does here: masks are averaged over all. Of the limits for the longer edge there is
# one here, the largest: an image is larger than in the release where it is wider than 3:2.
seven_scales = L(RCNNWithTTA)(
    short_edge_lengths=(600, 800, 800, 1000, 1200, 1400, 1600),
    max_size=2400,
    flip=False,
)
