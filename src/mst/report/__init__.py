"""Results come in; tables, figures and lines of text go out."""

from .benchmark import benchmark_summary, benchmark_table
from .budget import budget_figure, budget_tables
from .codings import codings_against_cost, codings_markdown, early_exit_curves
from .datasets import cache_summary, check_summary, dataset_table, made_recordings_summary, recording_summary
from .diagnosis import diagnosis_figure, diagnosis_summary, diagnosis_table, write_diagnosis_csv
from .doctor import checks_table, extras_table, fault_lines, installation_table
from .events import draw_recording, event_animation, event_frames, event_scatter
from .export import chip_table, differing_table, export_summary
from .figures import accuracy_vs_time, energy_bars, firing_rates
from .model_card import model_card
from .page import PageReport, build_report
from .pareto import sweep_fronts
from .predictions import draw_predictions, prediction_summary, prediction_table
from .settled import settled_summary, settled_table
from .summaries import energy_summary, run_label, run_title, simulation_summary
from .sweeps import (
    sweep_against_energy,
    sweep_against_ratio,
    sweep_against_time,
    sweep_markdown,
    sweep_pareto,
    write_sweep_csv,
)
from .tables import (
    accuracy_table,
    energy_table,
    function_table,
    operation_table,
    site_table,
    steps_in_words,
    steps_shown,
)
from .zoo import card_lines, option_words, runs_table, zoo_table

__all__ = [
    "PageReport",
    "accuracy_table",
    "accuracy_vs_time",
    "benchmark_summary",
    "benchmark_table",
    "budget_figure",
    "budget_tables",
    "build_report",
    "cache_summary",
    "card_lines",
    "check_summary",
    "checks_table",
    "chip_table",
    "codings_against_cost",
    "codings_markdown",
    "dataset_table",
    "diagnosis_figure",
    "diagnosis_summary",
    "diagnosis_table",
    "differing_table",
    "draw_predictions",
    "draw_recording",
    "early_exit_curves",
    "energy_bars",
    "energy_summary",
    "energy_table",
    "event_animation",
    "event_frames",
    "event_scatter",
    "export_summary",
    "extras_table",
    "fault_lines",
    "firing_rates",
    "function_table",
    "installation_table",
    "made_recordings_summary",
    "model_card",
    "operation_table",
    "option_words",
    "prediction_summary",
    "prediction_table",
    "recording_summary",
    "run_label",
    "run_title",
    "runs_table",
    "settled_summary",
    "settled_table",
    "simulation_summary",
    "site_table",
    "steps_in_words",
    "steps_shown",
    "sweep_against_energy",
    "sweep_against_ratio",
    "sweep_against_time",
    "sweep_fronts",
    "sweep_markdown",
    "sweep_pareto",
    "write_diagnosis_csv",
    "write_sweep_csv",
    "zoo_table",
]
