"""Names and paths come in; images, or frames of events, with labels, split and preprocessed, go out."""

from .batches import LabelledBatches, LabelledImages, is_dataset, labelled_batches
from .entry import DatasetEntry, DatasetInfo
from .events.augment import EventAugmentConfig
from .events.cache import cache_folder, cache_size
from .events.camera import CameraConfig, SimulatedCamera
from .events.formats import EVENT_FORMATS, read_events, write_events
from .events.representation import EventRepresentation, per_step_frames, represent
from .events.sources import StoredRecording, read_sound_events
from .events.stream import EVENT, Events, Sensor, UnreadableEventsError, UnreadableSampleError, make_events
from .images.fashion_mnist import DEFAULT_DATA_PATH, find_fashion_mnist
from .images.files import find_image_splits, open_image_files
from .images.preprocessing import AugmentConfig, Interpolation, Preprocessing
from .loading import DataSplits, load_dataset
from .options import DataOptions
from .registry import DATASETS, EVENTS, dataset_info
from .splits import BadImages, ImageDataset, UnreadableImageError, collate, in_order

__all__ = [
    "DATASETS",
    "DEFAULT_DATA_PATH",
    "EVENT",
    "EVENTS",
    "EVENT_FORMATS",
    "AugmentConfig",
    "BadImages",
    "CameraConfig",
    "DataOptions",
    "DataSplits",
    "DatasetEntry",
    "DatasetInfo",
    "EventAugmentConfig",
    "EventRepresentation",
    "Events",
    "ImageDataset",
    "Interpolation",
    "LabelledBatches",
    "LabelledImages",
    "Preprocessing",
    "Sensor",
    "SimulatedCamera",
    "StoredRecording",
    "UnreadableEventsError",
    "UnreadableImageError",
    "UnreadableSampleError",
    "cache_folder",
    "cache_size",
    "collate",
    "dataset_info",
    "find_fashion_mnist",
    "find_image_splits",
    "in_order",
    "is_dataset",
    "labelled_batches",
    "load_dataset",
    "make_events",
    "open_image_files",
    "per_step_frames",
    "read_events",
    "read_sound_events",
    "represent",
    "write_events",
]
