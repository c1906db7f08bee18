"""Train Transformers with quantised activations, mask their spikes, convert them to spiking networks, measure them.

Importing this package registers its models with timm.
"""

from mst.checkpoints import CheckpointInfo, import_released, load_checkpoint, read_checkpoint_info, save_checkpoint
from mst.conversion import ConversionError, SiteConversion, SpikingNetwork, convert
from mst.data import (
    AugmentConfig,
    DataOptions,
    EventAugmentConfig,
    EventRepresentation,
    Preprocessing,
    load_dataset,
    read_events,
    write_events,
)
from mst.measure import EnergyConstants, EnergyEstimate, estimate_energy
from mst.models import (
    ActivationProduct,
    AddConstant,
    ChannelAlignment,
    MaskedSpikingTransformer,
    MSTConfig,
    TokenBatchNorm,
)
from mst.neurons import QCFS, FiringSchedule, IFNeuron, SignedIFNeuron, mask_spikes
from mst.quantization import Quantization, create_model, quantize
from mst.simulation import EarlyExit, SimulationResult, calibrate_early_exit, simulate, simulate_dataset
from mst.training import TrainConfig, evaluate, train

__version__ = "0.1.0"

__all__ = [
    "QCFS",
    "ActivationProduct",
    "AddConstant",
    "AugmentConfig",
    "ChannelAlignment",
    "CheckpointInfo",
    "ConversionError",
    "DataOptions",
    "EarlyExit",
    "EnergyConstants",
    "EnergyEstimate",
    "EventAugmentConfig",
    "EventRepresentation",
    "FiringSchedule",
    "IFNeuron",
    "MSTConfig",
    "MaskedSpikingTransformer",
    "Preprocessing",
    "Quantization",
    "SignedIFNeuron",
    "SimulationResult",
    "SiteConversion",
    "SpikingNetwork",
    "TokenBatchNorm",
    "TrainConfig",
    "__version__",
    "calibrate_early_exit",
    "convert",
    "create_model",
    "estimate_energy",
    "evaluate",
    "import_released",
    "load_checkpoint",
    "load_dataset",
    "mask_spikes",
    "quantize",
    "read_checkpoint_info",
    "read_events",
    "save_checkpoint",
    "simulate",
    "simulate_dataset",
    "train",
    "write_events",
]
