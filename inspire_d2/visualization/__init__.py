"""Figures: training curves and sheets of predictions."""

from inspire_d2.visualization.curves import plot_curves
from inspire_d2.visualization.grid import prediction_grid

__all__ = ["plot_curves", "prediction_grid"]
