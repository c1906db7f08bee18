from .benchmark_options import BenchmarkOptions
from .benchmarking import BenchmarkRun, run_benchmark
from .comparison import ComparisonRun, run_comparison
from .comparison_results import EXIT_LOSSES, LOSSES, AnnRun, CodingRun, Exit, coding_rows, steps_to_within
from .dataset_checks import DatasetCheck, DatasetListing, ListedDataset, check_dataset, download_dataset, list_datasets
from .dataset_options import DatasetCheckOptions, DownloadOptions, RecordingOptions, RecordingsOptions
from .diagnosis import DiagnosisRun, diagnose, run_diagnosis
from .diagnosis_options import DiagnosedCheckpoint, DiagnosisOptions
from .diagnosis_results import CodingTrial, Diagnosis, LevelTrial, SiteRemedy
from .doctor import ExtraFound, Fault, HealthReport, run_doctor
from .evaluation_run import EvaluationRun, run_evaluation
from .export_options import ExportOptions
from .exporting import ExportRun, run_export
from .gpu_suite import run_gpu_suite
from .importing import ImportRun, run_import
from .opening import OpenedRun, choose_device, masking_ratio_of, open_checkpoint, open_network, set_masking
from .options import (
    CheckpointOptions,
    CodingOptions,
    ComparisonOptions,
    EnergyOptions,
    EvaluationOptions,
    ExitOptions,
    ImportOptions,
    NetworkOptions,
    QuantizeOptions,
    StepOptions,
    TrainingOptions,
)
from .pareto import pareto_front
from .predict_options import PredictionOptions
from .prediction import DrawnPrediction, Prediction, PredictionRun, predict
from .publishing import CardFacts, NetworkFacts, card_facts, own_card, push
from .push_options import PushOptions
from .quantizing import QUANTIZED_CHECKPOINT, QuantizingRun, run_quantizing
from .quantizing_options import QuantizingOptions
from .recipes import load_recipe, parse_options
from .recordings import MadeRecordings, OpenedRecording, first_recording, make_recordings, open_recording
from .records import measurement_record, run_record, simulation_record, write_run_record
from .run_files import RunFiles, read_run
from .self_check import NumberCheck, check_numbers
from .settled_run import SettledRun, run_settled
from .spiking_run import MeasurementRun, SimulationRun, coding_label, run_measurement, run_simulation
from .sweep_options import SweepOptions
from .sweep_results import COLUMNS, CellFailure, SeedRun, SweepCell, SweepResult, sweep_rows
from .sweeping import SweepObserver, SweepRun, run_sweep
from .trace_options import TraceOptions
from .traces import RunTraces, TracedImage, read_traces, write_traces
from .training_run import OPTIONS_FILE, TrainingRun, run_training
from .watching import AnnAnswer, WatchableNetwork, Watched, WatchedCoding, WatchOptions
from .zoo_check import ZooCheck, check_zoo

__all__ = [
    "COLUMNS",
    "EXIT_LOSSES",
    "LOSSES",
    "OPTIONS_FILE",
    "QUANTIZED_CHECKPOINT",
    "AnnAnswer",
    "AnnRun",
    "BenchmarkOptions",
    "BenchmarkRun",
    "CardFacts",
    "CellFailure",
    "CheckpointOptions",
    "CodingOptions",
    "CodingRun",
    "CodingTrial",
    "ComparisonOptions",
    "ComparisonRun",
    "DatasetCheck",
    "DatasetCheckOptions",
    "DatasetListing",
    "DiagnosedCheckpoint",
    "Diagnosis",
    "DiagnosisOptions",
    "DiagnosisRun",
    "DownloadOptions",
    "DrawnPrediction",
    "EnergyOptions",
    "EvaluationOptions",
    "EvaluationRun",
    "Exit",
    "ExitOptions",
    "ExportOptions",
    "ExportRun",
    "ExtraFound",
    "Fault",
    "HealthReport",
    "ImportOptions",
    "ImportRun",
    "LevelTrial",
    "ListedDataset",
    "MadeRecordings",
    "MeasurementRun",
    "NetworkFacts",
    "NetworkOptions",
    "NumberCheck",
    "OpenedRecording",
    "OpenedRun",
    "Prediction",
    "PredictionOptions",
    "PredictionRun",
    "PushOptions",
    "QuantizeOptions",
    "QuantizingOptions",
    "QuantizingRun",
    "RecordingOptions",
    "RecordingsOptions",
    "RunFiles",
    "RunTraces",
    "SeedRun",
    "SettledRun",
    "SimulationRun",
    "SiteRemedy",
    "StepOptions",
    "SweepCell",
    "SweepObserver",
    "SweepOptions",
    "SweepResult",
    "SweepRun",
    "TraceOptions",
    "TracedImage",
    "TrainingOptions",
    "TrainingRun",
    "WatchOptions",
    "WatchableNetwork",
    "Watched",
    "WatchedCoding",
    "ZooCheck",
    "card_facts",
    "check_dataset",
    "check_numbers",
    "check_zoo",
    "choose_device",
    "coding_label",
    "coding_rows",
    "diagnose",
    "download_dataset",
    "first_recording",
    "list_datasets",
    "load_recipe",
    "make_recordings",
    "masking_ratio_of",
    "measurement_record",
    "open_checkpoint",
    "open_network",
    "open_recording",
    "own_card",
    "pareto_front",
    "parse_options",
    "predict",
    "push",
    "read_run",
    "read_traces",
    "run_benchmark",
    "run_comparison",
    "run_diagnosis",
    "run_doctor",
    "run_evaluation",
    "run_export",
    "run_gpu_suite",
    "run_import",
    "run_measurement",
    "run_quantizing",
    "run_record",
    "run_settled",
    "run_simulation",
    "run_sweep",
    "run_training",
    "set_masking",
    "simulation_record",
    "steps_to_within",
    "sweep_rows",
    "write_run_record",
    "write_traces",
]
