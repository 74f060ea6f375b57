"""Hostile and broken input: what every command does with it. ``python -m tests.robustness``."""
