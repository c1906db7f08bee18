"""Results come in; tables, figures and records go out."""

from .codings import (
    EXIT_LOSSES,
    AnnRun,
    CodingRun,
    Exit,
    coding_rows,
    codings_against_cost,
    codings_markdown,
    early_exit_curves,
    steps_to_within,
)
from .events import event_animation, event_frames, event_scatter
from .figures import accuracy_vs_time, energy_bars, firing_rates
from .records import measurement_record, run_record, simulation_record, write_run_record
from .sweeps import (
    COLUMNS,
    SeedRun,
    SweepCell,
    SweepResult,
    sweep_against_ratio,
    sweep_against_time,
    sweep_markdown,
    sweep_pareto,
    sweep_rows,
    write_sweep_csv,
)
from .tables import accuracy_table, energy_table, operation_table, site_table, steps_in_words, steps_shown

__all__ = [
    "COLUMNS",
    "EXIT_LOSSES",
    "AnnRun",
    "CodingRun",
    "Exit",
    "SeedRun",
    "SweepCell",
    "SweepResult",
    "accuracy_table",
    "accuracy_vs_time",
    "coding_rows",
    "codings_against_cost",
    "codings_markdown",
    "early_exit_curves",
    "energy_bars",
    "energy_table",
    "event_animation",
    "event_frames",
    "event_scatter",
    "firing_rates",
    "measurement_record",
    "operation_table",
    "run_record",
    "simulation_record",
    "site_table",
    "steps_in_words",
    "steps_shown",
    "steps_to_within",
    "sweep_against_ratio",
    "sweep_against_time",
    "sweep_markdown",
    "sweep_pareto",
    "sweep_rows",
    "write_run_record",
    "write_sweep_csv",
]
