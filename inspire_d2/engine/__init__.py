"""Training and scoring: config, checkpoint, trainer, hooks, launch."""

import warnings

# Detectron2's model_zoo says it at every start; the pinned setuptools still has pkg_resources.
warnings.filterwarnings("ignore", message="pkg_resources is deprecated as an API")
