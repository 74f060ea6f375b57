"""Regions' probabilities become one label a voxel."""

import numpy as np
import pytest
import torch

from inspire_d2.data.regions import paint, region_labels
from inspire_d2.errors import InputError

BRATS = {"WT": [1, 2, 3, 4], "TC": [1, 3, 4], "ET": [3, 4]}


def test_own_labels() -> None:
    assert region_labels(BRATS, [1, 2, 4]) == {"WT": 2, "TC": 1, "ET": 4}
    assert region_labels(BRATS, [1, 2, 3]) == {"WT": 2, "TC": 1, "ET": 3}
    assert region_labels({"lesion": [1]}, [1]) == {"lesion": 1}
    assert region_labels({"both": [5, 3]}, [3, 5]) == {"both": 3}
    for regions, labels in ((BRATS, [1, 2]), ({"a": [1], "b": [1, 2]}, [1, 2])):
        with pytest.raises(InputError, match="has no label of its own"):
            region_labels(regions, labels)


def test_a_region_lies_within_an_earlier_one_or_apart() -> None:
    """Else one label would have to be both: 1 is B's own and A's, 2 is A's alone."""
    with pytest.raises(InputError, match=r"the region B .* overlaps A .* not lie within it"):
        region_labels({"A": [1, 2], "B": [1, 4]}, [1, 2, 4])
    assert region_labels({"A": [1, 2], "B": [3], "C": [1]}, [1, 2, 3]) == {"A": 2, "B": 3, "C": 1}
    # as far as the set's labels go
    assert region_labels({"A": [1, 2], "B": [1, 4]}, [1, 2]) == {"A": 2, "B": 1}


def test_later_regions_are_painted_over_earlier_ones() -> None:
    probabilities = torch.tensor([[0.5, 0.9, 0.4, 0.1], [0.1, 0.6, 0.9, 0.49]]).view(2, 1, 1, 4)
    regions = {"WT": [1, 2], "TC": [1]}
    assert paint(probabilities, regions, [1, 2]).tolist() == [[[2, 1, 1, 0]]]
    assert paint(probabilities.numpy(), regions, [1, 2], 0.7).tolist() == [[[0, 2, 1, 0]]]
    assert paint(probabilities.half(), regions, [1, 2]).dtype == np.uint8
    with pytest.raises(InputError, match="2 maps for 1 regions"):
        paint(probabilities, {"WT": [1]}, [1])


def test_of_classes_the_most_probable_is_painted() -> None:
    # per voxel: background 0.2, 0.05, 0.4, 0.9, 0.34
    probabilities = torch.tensor([[0.45, 0.55, 0.3, 0.1, 0.33], [0.35, 0.4, 0.3, 0.0, 0.33]])
    regions = {"a": [1, 4], "b": [2]}
    maps = probabilities.view(2, 1, 1, 5)
    for given in (maps, maps.half(), maps.numpy()):
        painted = paint(given, regions, [1, 2, 4], exclusive=True)
        assert painted.tolist() == [[[1, 1, 0, 0, 0]]]
        assert painted.dtype == np.uint8
    assert paint(maps.flip(0), regions, [2, 4], exclusive=True).tolist() == [[[2, 2, 0, 0, 0]]]
    with pytest.raises(InputError, match="a threshold of 0.3 means nothing"):
        paint(maps, regions, [1, 2], 0.3, exclusive=True)
