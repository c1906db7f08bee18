from .batches import ImageBatches, ImageData, as_dataset, batches_of, image_batches, is_dataset
from .class_names import check_class_names
from .entry import DEFAULT_DATA_PATH, DatasetEntry, DatasetInfo, OpenedDataset
from .events.augment import EventAugmentConfig
from .events.cache import cache_folder, cache_size
from .events.camera import CameraConfig, SimulatedCamera
from .events.formats import EVENT_FORMATS, read_events, writable_formats, write_events
from .events.own import EVENTS
from .events.representation import EventRepresentation, per_step_frames, represent
from .events.sources import StoredRecording, read_sound_events
from .events.stream import EVENT, Events, Sensor, make_events
from .files_for_networks import PictureInputs, RecordingInputs, files_below, inputs_of
from .images.fashion_mnist import find_fashion_mnist
from .images.files import find_image_splits, open_image_files
from .images.preprocessing import AugmentConfig, Interpolation, Preprocessing
from .loader import BatchLoader, first_readable, in_order
from .loading import DataSplits, load_dataset
from .options import DataOptions
from .registry import DATASETS, OWN_DATASETS_INFO, dataset_info, entry_of, register_dataset
from .splits import ImageDataset, StoredImages
from .unreadable import BadImages, UnreadableEventsError, UnreadableImageError, UnreadableSampleError

__all__ = [
    "DATASETS",
    "DEFAULT_DATA_PATH",
    "EVENT",
    "EVENTS",
    "EVENT_FORMATS",
    "OWN_DATASETS_INFO",
    "AugmentConfig",
    "BadImages",
    "BatchLoader",
    "CameraConfig",
    "DataOptions",
    "DataSplits",
    "DatasetEntry",
    "DatasetInfo",
    "EventAugmentConfig",
    "EventRepresentation",
    "Events",
    "ImageBatches",
    "ImageData",
    "ImageDataset",
    "Interpolation",
    "OpenedDataset",
    "PictureInputs",
    "Preprocessing",
    "RecordingInputs",
    "Sensor",
    "SimulatedCamera",
    "StoredImages",
    "StoredRecording",
    "UnreadableEventsError",
    "UnreadableImageError",
    "UnreadableSampleError",
    "as_dataset",
    "batches_of",
    "cache_folder",
    "cache_size",
    "check_class_names",
    "dataset_info",
    "entry_of",
    "files_below",
    "find_fashion_mnist",
    "find_image_splits",
    "first_readable",
    "image_batches",
    "in_order",
    "inputs_of",
    "is_dataset",
    "load_dataset",
    "make_events",
    "open_image_files",
    "per_step_frames",
    "read_events",
    "read_sound_events",
    "register_dataset",
    "represent",
    "writable_formats",
    "write_events",
]
