"""A page about a run, or about two side by side: one HTML file that needs nothing else."""

from inspire_d2.report.page import write_report

__all__ = ["write_report"]
