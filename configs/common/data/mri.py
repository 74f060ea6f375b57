"""Slices of MRI volumes to train on, whole volumes to score."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader
from omegaconf import OmegaConf

from inspire_d2.data import build_train_loader
from inspire_d2.data.mri import mri_dataset
from inspire_d2.data.mri_mapper import MriMapper
from inspire_d2.data.mri_transforms import RandomGamma, RandomIntensity, RandomNoise
from inspire_d2.evaluation.volume import VolumeEvaluator

dataloader = OmegaConf.create()

dataloader.train = L(build_train_loader)(
    dataset=L(mri_dataset)(name="brats_train"),
    mapper=L(MriMapper)(
        is_train=True,
        # [height, width]; None takes whole slices, which must then be of one size
        patch_size=[192, 192],
        # of the patches, those that are drawn around a labelled voxel
        foreground_share=0.5,
        # 2.5D: so many slices on each side are channels too (see the bottom-up's in_channels)
        neighbours=0,
        augmentations=[
            L(T.RandomFlip)(horizontal=True, vertical=False),
            L(T.RandomFlip)(horizontal=False, vertical=True),
            L(RandomIntensity)(scale=0.1, shift=0.1, probability=1.0),
            L(RandomGamma)(low=0.7, high=1.5, probability=0.3),
            L(RandomNoise)(deviation=0.1, probability=0.2),
        ],
    ),
    total_batch_size=16,
    num_workers=2,
    # volumes, not images, are drawn
    aspect_ratio_grouping=False,
)

dataloader.test = L(build_detection_test_loader)(
    dataset=L(mri_dataset)(name="brats_val"),
    mapper=L(MriMapper)(is_train=False, neighbours="${...train.mapper.neighbours}"),
    num_workers=1,
)

dataloader.evaluator = L(VolumeEvaluator)(
    dataset_name="${dataloader.test.dataset.name}",
    regions="${model.sem_seg_head.loss.regions}",
    exclusive="${model.sem_seg_head.loss.exclusive}",
    output_dir="${train.output_dir}",
    # True: predictions/CASE.nii.gz, with the input's header and affine
    write_predictions=False,
)
