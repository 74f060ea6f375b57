"""Packaging of inspire_d2; the versions that are tested together stand in requirements.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

# Read, not imported: importing the package asks for Detectron2, which a build does without.
INIT = Path(__file__).with_name("inspire_d2") / "__init__.py"
VERSION = re.search(r'^__version__ = "(.+)"$', INIT.read_text(encoding="utf-8"), re.M).group(1)

setup(
    name="inspire_d2",
    version=VERSION,
    description="INSPIRE, an interactive feature pyramid, on Detectron2",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["inspire_d2", "inspire_d2.*"]),
    # Detectron2 is missing on purpose: PyPI does not carry it under its own name.
    install_requires=[
        # from 2.6 on, torch.load reads weights and runs no code
        "torch>=2.6",
        "torchvision>=0.21",
        "numpy>=1.23",
        "fvcore>=0.1.5,<0.1.6",
        "hydra-core>=1.1",
        "iopath>=0.1.7,<0.1.10",
        "matplotlib>=3.6",
        "omegaconf>=2.1,<2.4",
        "opencv-python>=4.6",
        "pillow>=9",
        "psutil>=5.9",
        "pycocotools>=2.0.6",
        "hotcoco>=1.3",
        "scipy>=1.9",
        "submitit>=1.5",
        "tqdm>=4.60",
    ],
    # PraNet's polyp protocol is no extra: pysodmetrics asks for opencv-python-headless, and pip
    # would put that over opencv-python. docs/polyp_protocol.md says how to install it.
    extras_require={"medical": ["monai>=1.4", "nibabel>=5"]},
)
