"""INSPIRE's equations (the design page, section 1) in float64 NumPy, written literally.

Shape shorthand in this module: N images, C or D channels, H x W pixels; (h, w) is the coarse map's
size where a fine one is H x W. A parameter set is a dict of arrays whose keys are those of the
``state_dict`` of the module in question; ``sub(params, "ise3")`` is the part below ``ise3.``.
Nothing here uses torch: what the tests compare must not share code.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

Array = np.ndarray
Params = Mapping[str, Array]
Stage = Callable[[Array], Array]

GROUP_NORM_EPS = 1e-5
COSINE_EPS = 1e-6
GN_GROUPS = 32  # of Detectron2's norm="GN"


def sub(params: Params, prefix: str) -> dict[str, Array]:
    """The parameters below ``prefix``, without it."""
    start = f"{prefix}."
    return {key[len(start) :]: value for key, value in params.items() if key.startswith(start)}


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-x))


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0.0)


def conv1x1(x: Array, params: Params) -> Array:
    """A linear map of each pixel's channels: (N, C, H, W) -> (N, D, H, W)."""
    out = np.einsum("dc,nchw->ndhw", params["weight"][:, :, 0, 0], x)
    if "bias" in params:
        out = out + params["bias"][None, :, None, None]
    return out


def conv3x3(x: Array, params: Params, stride: int = 1) -> Array:
    """A 3x3 convolution with padding 1: cross-correlation, zeros outside."""
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((x.shape[0], params["weight"].shape[0], height, width))
    for row in range(3):
        for column in range(3):
            window = padded[:, :, row : row + height, column : column + width]
            out += np.einsum("dc,nchw->ndhw", params["weight"][:, :, row, column], window)
    if "bias" in params:
        out = out + params["bias"][None, :, None, None]
    return out[:, :, ::stride, ::stride]


def group_norm(x: Array, params: Params, groups: int) -> Array:
    """Each image's group of channels to mean 0 and (biased) variance 1, then scaled and shifted."""
    out = np.empty_like(x)
    size = x.shape[1] // groups
    for image in range(x.shape[0]):
        for group in range(groups):
            part = x[image, group * size : (group + 1) * size]
            out[image, group * size : (group + 1) * size] = (part - part.mean()) / np.sqrt(
                part.var() + GROUP_NORM_EPS
            )
    return out * params["weight"][None, :, None, None] + params["bias"][None, :, None, None]


def fpn_conv(x: Array, params: Params) -> Array:
    """FPN's lateral (1x1) or output (3x3) convolution, with GN if it has a norm."""
    out = (conv1x1 if params["weight"].shape[-1] == 1 else conv3x3)(x, params)
    if "norm.weight" in params:
        out = group_norm(out, sub(params, "norm"), GN_GROUPS)
    return out


# F_ad and F_fe


def adaptive_descriptor(feature: Array, params: Params) -> Array:
    """A' = sigmoid(MLP(GAP(C))): (N, C, 1, 1)."""
    pooled = feature.mean(axis=(2, 3))
    hidden = relu(pooled @ params["squeeze.weight"].T + params["squeeze.bias"])
    out = sigmoid(hidden @ params["excite.weight"].T + params["excite.bias"])
    return out[:, :, None, None]


def feature_enhancement(feature: Array, params: Params, groups: int) -> Array:
    """W_o act(norm(D (W_c C + W_a Ĉ))) with Ĉ = A' ⊗ C and D one 3x3 kernel a channel."""
    described = adaptive_descriptor(feature, sub(params, "descriptor")) * feature
    mixed = conv1x1(feature, sub(params, "map_feature")) + conv1x1(
        described, sub(params, "map_descriptor")
    )
    kernels = np.zeros((mixed.shape[1], mixed.shape[1], 3, 3))
    for channel, kernel in enumerate(params["depthwise.weight"]):
        kernels[channel, channel] = kernel[0]
    mixed = conv3x3(mixed, {"weight": kernels})
    hidden = relu(group_norm(mixed, sub(params, "norm"), groups))
    return conv1x1(hidden, sub(params, "output"))


# F_af


def correlation(moving: Array, resident: Array, params: Params) -> Array:
    """The cosine between both embeddings at every pixel: (N, 1, H, W)."""
    mx = conv1x1(moving, sub(params, "embed_moving"))
    my = conv1x1(resident, sub(params, "embed_resident"))
    lengths = np.sqrt((mx**2).sum(axis=1)) * np.sqrt((my**2).sum(axis=1))
    return ((mx * my).sum(axis=1) / np.maximum(lengths, COSINE_EPS))[:, None]


def adaptive_fusion(moving: Array, resident: Array, params: Params) -> Array:
    """λ ⊗ X + (2 - λ) ⊗ Y with λ = 2 sigmoid(τ s + b)."""
    cosine = correlation(moving, resident, params)
    # The parameters are a sixteenth of tau and b.
    weight = 2.0 * sigmoid(16.0 * params["scale"] * cosine + 16.0 * params["bias"])
    return weight * moving + (2.0 - weight) * resident


# align


def up2(coarse: Array, size: Sequence[int]) -> Array:
    """Nearest up-sampling: fine pixel i takes coarse pixel i // 2."""
    rows = np.arange(size[0]) // 2
    columns = np.arange(size[1]) // 2
    return coarse[:, :, rows][:, :, :, columns]


def sample_clamped(image: Array, y: float, x: float) -> Array:
    """Bilinear value of a (C, h, w) map at (y, x), the position clamped into the map: (C,)."""
    height, width = image.shape[1:]
    y = min(max(y, 0.0), height - 1.0)
    x = min(max(x, 0.0), width - 1.0)
    top, left = int(np.floor(y)), int(np.floor(x))
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    return (
        (1 - down) * (1 - across) * image[:, top, left]
        + (1 - down) * across * image[:, top, right]
        + down * (1 - across) * image[:, bottom, left]
        + down * across * image[:, bottom, right]
    )


def sample_zero(image: Array, y: float, x: float) -> Array:
    """Bilinear value of a (C, h, w) map at (y, x), every pixel outside the map being zero: (C,)."""
    value = np.zeros(image.shape[0])
    top, left = int(np.floor(y)), int(np.floor(x))
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                value += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return value


def flow_offsets(coarse: Array, fine: Array, params: Params) -> Array:
    """The two offsets (x, then y; in coarse pixels) of every fine pixel: (N, 2, H, W)."""
    raised = up2(conv1x1(coarse, sub(params, "embed_coarse")), fine.shape[2:])
    both = np.concatenate([raised, conv1x1(fine, sub(params, "embed_fine"))], axis=1)
    return conv3x3(both, sub(params, "offset"))


def flow_align(coarse: Array, fine: Array, params: Params) -> Array:
    """Each fine pixel reads the coarse map at its nearest coarse pixel plus its offset."""
    offsets = flow_offsets(coarse, fine, params)
    out = np.empty((*coarse.shape[:2], *fine.shape[2:]))
    for image, i, j in np.ndindex(out.shape[0], *out.shape[2:]):
        x = j // 2 + offsets[image, 0, i, j]
        y = i // 2 + offsets[image, 1, i, j]
        out[image, :, i, j] = sample_clamped(coarse[image], y, x)
    return out


def deform_conv3x3(x: Array, offsets: Array, weight: Array) -> Array:
    """A 3x3 convolution whose point k reads (y, x) shifted by channels 2k and 2k + 1."""
    out = np.zeros((x.shape[0], weight.shape[0], *x.shape[2:]))
    for image, i, j in np.ndindex(out.shape[0], *out.shape[2:]):
        for row in range(3):
            for column in range(3):
                point = 3 * row + column
                down = i + row - 1 + offsets[image, 2 * point, i, j]
                across = j + column - 1 + offsets[image, 2 * point + 1, i, j]
                read = sample_zero(x[image], down, across)
                out[image, :, i, j] += weight[:, :, row, column] @ read
    return out


def deform_align(coarse: Array, fine: Array, params: Params) -> Array:
    """A deformable convolution of the up-sampled coarse map, offsets from both maps."""
    raised = up2(coarse, fine.shape[2:])
    offsets = conv3x3(np.concatenate([raised, fine], axis=1), sub(params, "offset"))
    return deform_conv3x3(raised, offsets, params["conv.weight"])


def align(coarse: Array, fine: Array, params: Params, kind: str) -> Array:
    """The coarse map brought onto the fine one's pixels."""
    if kind == "none":
        return up2(coarse, fine.shape[2:])
    return {"flow": flow_align, "deform": deform_align}[kind](coarse, fine, params)


# the pyramid: ISE, ISA, SSBA


def ssba(pyramid: Array, feature: Array, params: Params, groups: int) -> Array:
    """C̃ = F_af(F_fe(P, F_ad(P)), C)."""
    enhanced = feature_enhancement(pyramid, sub(params, "enhancement"), groups)
    return adaptive_fusion(enhanced, feature, sub(params, "fusion"))


def top_down(
    features: Mapping[int, Array],
    params: Params,
    groups: Mapping[str, int],
    *,
    ise: bool,
    kind: str,
    fuse_type: str,
) -> dict[int, Array]:
    """One pyramid: ISE at every level, then ISA from the top level down."""
    laterals = {}
    for j, feature in features.items():
        laterals[j] = fpn_conv(feature, sub(params, f"fpn_lateral{j}"))
        if ise:
            laterals[j] = laterals[j] + feature_enhancement(
                feature, sub(params, f"ise{j}"), groups[f"ise{j}"]
            )
    levels = sorted(features)
    pyramid = {levels[-1]: laterals[levels[-1]]}
    for j in reversed(levels[:-1]):
        moved = align(pyramid[j + 1], laterals[j], sub(params, f"align{j}"), kind)
        pyramid[j] = adaptive_fusion(moved, laterals[j], sub(params, f"fusion{j}"))
        if fuse_type == "avg":
            pyramid[j] = pyramid[j] / 2
    return pyramid


def inspire_fpn(
    lowest: Array,
    stages: Sequence[Mapping[int, Stage]],
    params: Params,
    groups: Mapping[str, int],
    *,
    ise: bool = True,
    kind: str = "flow",
    fuse_type: str = "sum",
) -> tuple[dict[str, Array], dict[int, Array]]:
    """The outputs ``p{j}`` (before a top block) and the last step's bottom-up features.

    ``lowest`` is the finest level's feature, computed once. ``stages[t][j]`` computes level j from
    level j - 1 in step t, so ``len(stages)`` is the number of steps; the lowest level of
    ``stages[t]`` is one above the finest. ``groups["ise3"]`` and ``groups["ssba3.enhancement"]``
    are the numbers of groups of the norms.
    """
    first = min(stages[0]) - 1
    features: dict[int, Array] = {first: lowest}
    for j in sorted(stages[0]):
        features[j] = stages[0][j](features[j - 1])
    options = {"ise": ise, "kind": kind, "fuse_type": fuse_type}
    pyramid = top_down(features, params, groups, **options)
    for step in stages[1:]:
        augmented: dict[int, Array] = {}
        for j in sorted(features):
            fresh = lowest if j == first else step[j](augmented[j - 1])
            augmented[j] = ssba(
                pyramid[j], fresh, sub(params, f"ssba{j}"), groups[f"ssba{j}.enhancement"]
            )
        features = augmented
        pyramid = top_down(features, params, groups, **options)
    outputs = {
        f"p{j}": fpn_conv(pyramid[j], sub(params, f"fpn_output{j}")) for j in sorted(pyramid)
    }
    return outputs, features
