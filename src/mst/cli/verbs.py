"""The verbs of the command line, without importing them: where each is, and its line in the overview."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class Verb:
    """A verb of the command `mst`."""

    function: str
    """Function in the module `mst.cli.<module>` whose signature holds the verb's options."""

    module: str
    """File of that function in this folder."""

    summary: str
    """Line in the overview."""

    has_subcommands: bool = False
    """True if the function takes the rest of the command line and chooses a subcommand."""

    def load(self) -> Callable[..., None]:
        """The function."""
        function: Callable[..., None] = getattr(import_module(f"mst.cli.{self.module}"), self.function)
        return function


VERBS: dict[str, Verb] = {
    "train": Verb("train", "train", "train an ANN with quantised activations and, if asked, random spike masking"),
    "quantize": Verb("quantize", "quantize", "give a network trained in float its sites, without training"),
    "evaluate": Verb("evaluate", "evaluate", "measure the accuracy of a checkpoint as an ANN"),
    "simulate": Verb("simulate", "simulate", "convert a checkpoint to a spiking network and run it on test images"),
    "predict": Verb("predict", "predict", "classify pictures or recordings of your own, step by step"),
    "measure": Verb("measure", "measure", "count the operations of a spiking network and price them"),
    "compare": Verb("compare", "compare", "run a checkpoint under rate and lossless coding side by side"),
    "diagnose": Verb("diagnose", "diagnose", "show where quantisation costs accuracy; advise bits and time steps"),
    "benchmark": Verb("benchmark", "benchmark", "time a simulation beside its ANN and a plain loop over the steps"),
    "export": Verb("export", "export", "write NIR or ONNX, verify it in other simulators, hold it against chips"),
    "sweep": Verb("sweep", "sweep", "train and simulate every combination of settings"),
    "report": Verb("report", "report", "write a page about one run, or about several side by side"),
    "demo": Verb("demo", "demo", "watch a network decide in the browser: draw, upload or choose an image"),
    "import": Verb("import_weights", "import_weights", "turn released weights, or a Swin's, into a checkpoint"),
    "zoo": Verb("zoo", "zoo", "list the trained networks that come with the package; check their figures"),
    "push": Verb("push", "push", "publish a checkpoint on the Hugging Face hub, with a card of what was measured"),
    "datasets": Verb("run", "datasets", "list, check, show, download and make data sets", has_subcommands=True),
    "doctor": Verb("doctor", "doctor", "examine the installation and check its numbers; what to do about faults"),
    "quickstart": Verb("quickstart", "quickstart", "train, convert, simulate and measure on digits, in minutes"),
}
