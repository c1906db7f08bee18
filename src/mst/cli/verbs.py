"""The verbs of the command line."""

from .compare import compare
from .datasets import datasets
from .evaluate import evaluate
from .import_weights import import_weights
from .measure import measure
from .parser import Verbs
from .quickstart import quickstart
from .simulate import simulate
from .sweep import sweep
from .train import train

VERBS: Verbs = {
    "train": train,
    "evaluate": evaluate,
    "simulate": simulate,
    "measure": measure,
    "compare": compare,
    "sweep": sweep,
    "import": import_weights,
    "datasets": datasets,
    "quickstart": quickstart,
}
