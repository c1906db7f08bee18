"""The card of a checkpoint on the Hugging Face hub, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from mst.experiments.publishing import CardFacts, NetworkFacts
from mst.experiments.push_options import PushOptions
from mst.experiments.run_files import Fields, RunFiles
from mst.extras import PACKAGE

TAGS = ("spiking-neural-network", "ann-to-snn-conversion", PACKAGE)

_INTRODUCTION = (
    "A network with quantised activations, made to be converted to a spiking neural network by the library mst "
    f"(`{PACKAGE}`). Under lossless coding the answers of the settled SNN are those of the quantised ANN."
)

_USE = """\
    pip install {package}
    mst simulate hf:{repository} --coding lossless --burst 4

```python
import mst

network = mst.load("hf:{repository}")
snn = mst.convert(network, "lossless", images[:1], burst=4)  # images: {images}
result = mst.simulate(snn, images, 100)
```

`hf:{repository}@REVISION` names one revision for good; the first download says which one it is."""

_ENERGY = (
    "Energy: counted operations of maps and products times published prices (45 nm), as a multiple of the dense "
    "float32 ANN's. It was not measured on a device."
)

Command = Callable[[RunFiles], str]


def model_card(facts: CardFacts, options: PushOptions, command_of: Command) -> str:
    """The text of README.md: how the network is used, what it is, how it was trained, what was measured.

    Args:
        facts: of `mst.experiments.card_facts`.
        options: repository and licence.
        command_of: the command that makes a run again.
    """
    parts = [
        _header(options),
        f"# {options.repository.partition('/')[2]}",
        _INTRODUCTION,
        "## Use",
        _USE.format(package=PACKAGE, repository=options.repository, images=_shape(facts.network)),
        "## Network",
        _table(("property", "value"), _network_rows(facts)),
        "## Training",
        *_training(facts, command_of),
        "## Measured",
        *_measured(facts.runs, command_of),
    ]
    return "\n\n".join(parts) + "\n"


def _header(options: PushOptions) -> str:
    lines = ["---", f"library_name: {PACKAGE}", "pipeline_tag: image-classification"]
    lines += [] if options.license is None else [f"license: {options.license}"]
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in TAGS), "---"])


def _shape(network: NetworkFacts | None) -> str:
    if network is None or network.image_shape is None:
        return "a batch as the network takes it"
    return f"[N, {', '.join(map(str, network.image_shape))}]"


def _network_rows(facts: CardFacts) -> Iterator[tuple[str, str]]:
    network, preprocessing = facts.network, facts.info.preprocessing
    if network is None:
        yield "class", "of its author; `mst.load` needs the network itself as its second argument"
    else:
        yield "architecture", network.architecture
        yield "parameters", f"{network.parameters:,}"
        if network.image_shape is not None:
            yield "image", " x ".join(map(str, network.image_shape)) + " (channels x height x width)"
        if network.num_classes is not None:
            yield "classes", f"{network.num_classes}"
        yield "sites (places with quantised activations)", f"{network.sites}"
        yield "levels", ", ".join(f"{lowest} to {highest}" for lowest, highest in network.levels)
        if network.masked_sites:
            yield "random spike masking", f"ratio {network.masking_ratio:g} at {network.masked_sites} sites"
    if preprocessing is not None:
        yield "preprocessing", f"mean {_numbers(preprocessing.mean)}, standard deviation {_numbers(preprocessing.std)}"
    if facts.info.class_names:
        yield "class names", ", ".join(facts.info.class_names)


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _training(facts: CardFacts, command_of: Command) -> Iterator[str]:
    yield f"Data set: {facts.info.dataset or 'not stated'}."
    if facts.training is None:
        stated = {name: value for name, value in facts.info.provenance.items() if isinstance(value, str | int | float)}
        if stated:
            yield _table(("as the checkpoint states it", ""), ((name, str(value)) for name, value in stated.items()))
        return
    record = facts.training.record
    yield f"    {command_of(facts.training)}"
    results, versions = record.part("results"), record.part("versions")
    accuracy = None if results is None else results.number("accuracy")
    said = [] if accuracy is None else [f"Accuracy of the quantised ANN on the test images: {100 * accuracy:.2f} %."]
    if versions is not None:
        said.append(f"mst {versions.text(PACKAGE) or 'unknown'}, PyTorch {versions.text('torch') or 'unknown'}.")
    if said:
        yield " ".join(said)


def _measured(runs: tuple[RunFiles, ...], command_of: Command) -> Iterator[str]:
    if not runs:
        yield "Nothing beside the training."
        return
    heading = ("run", "test images", "ANN", "SNN", "mean steps", "spikes per neuron", "energy")
    yield _table(heading, (_row(number, run) for number, run in enumerate(runs, start=1)))
    yield "\n".join(f"{number}. `{command_of(run)}`" for number, run in enumerate(runs, start=1))
    texts = [f"Run {number}: {text}." for number, run in enumerate(runs, start=1) if (text := _verdict(run))]
    if any(run.verb == "measure" for run in runs):
        yield " ".join([_ENERGY, *texts])
    yield "Accuracies are those of the first test images of the data set, in its order."


def _row(number: int, run: RunFiles) -> tuple[str, ...]:
    results = run.record.part("results")
    found = [each for each in (run.results, results, run.record) if each is not None]
    neurons = _neurons(run.results)
    spikes = _first(found, "spikes_per_image")
    per_neuron = _first(found, "spikes_per_neuron")
    if per_neuron is None and neurons and spikes is not None:
        per_neuron = spikes / neurons
    images, energy = _first(found, "num_images"), _first(found, "energy_ratio")
    return (
        f"{number}",
        "" if images is None else f"{images:,.0f}",
        _percent(_first(found, "ann_accuracy")),
        _percent(_first(found, "snn_accuracy")),
        "" if (steps := _first(found, "mean_steps")) is None else f"{steps:.1f}",
        "" if per_neuron is None else f"{per_neuron:.2f}",
        "" if energy is None else f"{energy:.2f}x",
    )


def _neurons(results: Fields | None) -> float:
    sites = {} if results is None else results.parts("sites")
    return sum(site.number("num_neurons") or 0 for site in sites.values())


def _first(places: list[Fields], name: str) -> float | None:
    return next((value for each in places if (value := each.number(name)) is not None), None)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _verdict(run: RunFiles) -> str | None:
    verdict = None if run.results is None else run.results.part("verdict")
    return None if verdict is None else verdict.text("text")


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heading, tuple("---" for _ in heading), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    """Text that neither ends its cell nor acts as HTML."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")
