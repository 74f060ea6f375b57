"""Training and scoring: config, checkpoint, trainer, hooks, launch."""
