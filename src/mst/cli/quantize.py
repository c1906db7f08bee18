"""`mst quantize`: a trained network turned into one with sites, without training."""

from __future__ import annotations

from pathlib import Path

from mst.experiments.quantizing_options import QuantizingOptions
from mst.options import flatten

from .display import print_files, print_line


def quantize(options: QuantizingOptions, output: Path = Path("runs/quantize")) -> None:
    """Give a trained network its sites, without training it again: one trained in float, or an MST.

    Levels are set from training images. An MST with sites at its activations keeps these as clipped ReLUs, without
    masks. Prints the accuracy before and after, and writes quantized.safetensors, which
    the other verbs take, and run_record.json.

    Example: mst quantize runs/vit/last.safetensors --num-levels 63

    Args:
        options: the network, the images, and how it is quantised.
        output: Folder for the results.
    """
    from mst.distributed import is_main_process
    from mst.experiments import run_quantizing, run_record, write_run_record
    from mst.files import prepare_folder

    prepare_folder(output)
    run = run_quantizing(options, output)
    if not is_main_process():
        return
    facts, plain, quantized = run.opened.facts(), run.plain, run.evaluation
    print_line(
        f"{options.checkpoint.name} on {facts['dataset']}, {plain.num_images} images: top-1 {100 * plain.accuracy:.2f} "
        f"% before, {100 * quantized.accuracy:.2f} % with {run.num_sites} sites ({100 * run.agreement:.2f} % of the "
        f"answers are the same); its activations are {quantized.quanta_per_neuron:.2f} quanta per neuron"
    )
    results = {
        "float_accuracy": plain.accuracy, "accuracy": quantized.accuracy, "agreement": run.agreement,
        "num_sites": run.num_sites, "num_images": plain.num_images,
    }  # fmt: skip
    record = run_record("quantize", {**flatten(options), "output": output}, results, **facts)
    print_files(run.checkpoint, write_run_record(output, record))
