"""Packaging of inspire_d2; the versions that are tested together stand in requirements.txt."""

import re
from pathlib import Path

from setuptools import find_namespace_packages, find_packages, setup

ROOT = Path(__file__).parent
# Read, not imported: importing the package asks for Detectron2, which a build does without.
INIT = (ROOT / "inspire_d2" / "__init__.py").read_text(encoding="utf-8")
VERSION = re.search(r'^__version__ = "(.+)"$', INIT, re.M).group(1)

# Commands, by their function in inspire_d2/cli.py, and the script that each of them runs
COMMANDS = {
    "train": "train_net",
    "predict": "tools.predict",
    "predict_mri": "tools.predict_mri",
    "prepare_polyps": "datasets.prepare_polyps",
    "prepare_mri": "datasets.prepare_mri",
    "convert_torchvision": "tools.convert_torchvision",
    "summarize": "tools.summarize_runs",
    "report": "tools.report",
    "submit": "tools.submit",
    "export": "tools.export",
}
CONFIG_FOLDERS = find_namespace_packages("configs", exclude=["*__pycache__*"])

setup(
    name="inspire_d2",
    version=VERSION,
    description="INSPIRE, an interactive feature pyramid, on Detectron2",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The inspire_d2 authors",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
    python_requires=">=3.10",
    # A wheel takes along, inside the package, what lies beside it in a checkout.
    package_dir={"inspire_d2.configs": "configs", "inspire_d2.scripts": "."},
    packages=[
        *find_packages(include=["inspire_d2", "inspire_d2.*"]),
        "inspire_d2.configs",
        *(f"inspire_d2.configs.{name}" for name in CONFIG_FOLDERS),
    ],
    package_data={"inspire_d2.report": ["templates/*"]},
    py_modules=[
        f"inspire_d2.scripts.{script}"
        for script in (*COMMANDS.values(), "tools.predict_output", "tools.submit_checks")
    ],
    entry_points={
        "console_scripts": [
            f"inspire-d2-{name.replace('_', '-')} = inspire_d2.cli:{name}" for name in COMMANDS
        ]
    },
    # Detectron2 is missing on purpose: PyPI does not carry it under its own name.
    install_requires=[
        # from 2.6 on, torch.load reads weights and runs no code
        "torch>=2.6",
        "torchvision>=0.21",
        "numpy>=1.23",
        "fvcore>=0.1.5,<0.1.6",
        "hydra-core>=1.1",
        "iopath>=0.1.7,<0.1.10",
        "jinja2>=3.1",
        "markupsafe>=2.1",
        "matplotlib>=3.6",
        "omegaconf>=2.1,<2.4",
        "opencv-python>=4.6",
        "pillow>=9",
        "psutil>=5.9",
        "pycocotools>=2.0.6",
        "pyyaml>=5.1",
        "hotcoco>=1.3",
        "scipy>=1.9",
        "submitit>=1.5",
        "tabulate>=0.8",
        "tqdm>=4.60",
    ],
    # PraNet's polyp protocol is no extra: pysodmetrics asks for opencv-python-headless, and pip
    # would put that over opencv-python. docs/polyp_protocol.md says how to install it.
    extras_require={
        "demo": ["gradio>=6.31"],
        "medical": ["monai>=1.4", "nibabel>=5"],
        "export": ["onnx>=1.16", "onnxruntime>=1.18"],
        "panoptic": ["panopticapi-lite>=0.2"],
    },
)
