"""Records in, tables, figures and csv files out."""

from . import codings, energy, events, spikes, stock, sweeps, zoo
from .csv_files import csv_texts
from .figures import FIGURES, figure_source
from .pages import filled, markers
from .records import read_records
from .tables import TABLES

TOPICS = (codings, energy, events, spikes, stock, sweeps, zoo)
"""Modules that register the functions of tables."""

__all__ = ["FIGURES", "TABLES", "TOPICS", "csv_texts", "figure_source", "filled", "markers", "read_records"]
