"""Figures: training curves and sheets of predictions."""

from inspire_d2.visualization.curves import plot_curves
from inspire_d2.visualization.grid import prediction_grid
from inspire_d2.visualization.predictions import read_predictions

__all__ = ["plot_curves", "prediction_grid", "read_predictions"]
