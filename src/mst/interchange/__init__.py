"""Networks come in; files for other simulators, other runtimes and chips go out, and what these make of them."""

from .chips import CHIPS, ChipCheck, ChipName, Need, check_chip
from .double import use_float64_operations
from .execution import GraphNetwork, Step, network_steps
from .graph import Graph
from .nir_files import read_nir, write_nir
from .programs import (
    Comparison,
    OnnxNetwork,
    Program,
    ann_network,
    compare_onnx,
    export_onnx,
    export_torch,
    read_out,
    round_weights,
)
from .stateless import AnnNetwork, StepNetwork
from .targets import TARGETS, LoadedNetwork, Target, TargetName, load
from .tracing import ExportError, trace_graph
from .verification import GraphRun, SiteDifference, Steps, Verification, compare_spikes, run_steps
from .weights import check_bits, integer_weights, quantize_weights

__all__ = [
    "CHIPS",
    "TARGETS",
    "AnnNetwork",
    "ChipCheck",
    "ChipName",
    "Comparison",
    "ExportError",
    "Graph",
    "GraphNetwork",
    "GraphRun",
    "LoadedNetwork",
    "Need",
    "OnnxNetwork",
    "Program",
    "SiteDifference",
    "Step",
    "StepNetwork",
    "Steps",
    "Target",
    "TargetName",
    "Verification",
    "ann_network",
    "check_bits",
    "check_chip",
    "compare_onnx",
    "compare_spikes",
    "export_onnx",
    "export_torch",
    "integer_weights",
    "load",
    "network_steps",
    "quantize_weights",
    "read_nir",
    "read_out",
    "round_weights",
    "run_steps",
    "trace_graph",
    "use_float64_operations",
    "write_nir",
]
