"""`mst export`: a checkpoint as a file for other simulators, runtimes and chips."""

from __future__ import annotations

from mst.experiments.export_options import ExportOptions
from mst.experiments.options import CheckpointOptions, CodingOptions
from mst.options import flatten

from .display import console, print_files, print_line, progress_bar


def export(checkpoint: CheckpointOptions, options: ExportOptions, coding: CodingOptions) -> None:
    """Write a checkpoint as NIR, ONNX or a program of torch.export; verify it; hold it against a chip.

    NIR takes rate-coded networks of convolutions, linear maps, average pools and sums; everything else is refused, all
    places at once. ONNX takes any network without masks.

    Example: mst export runs/resnet/last.safetensors --verify sinabs -o resnet.nir
    Example: mst export runs/resnet/last.safetensors --weight-bits 8 --check speck
    Example: mst export runs/masked/last.safetensors --to onnx --masking-ratio 0 --verify onnxruntime
    Example: mst export runs/masked/last.safetensors --to onnx --part step --coding lossless

    Args:
        checkpoint: the network and the images.
        options: the form of the file, and what is verified.
        coding: coding of a time step.
    """
    from mst.checkpoints import pinned_reference
    from mst.experiments import run_export, run_record
    from mst.files import write_json
    from mst.report import chip_table, differing_table, export_summary

    with progress_bar() as progress:
        run = run_export(checkpoint, options, coding, progress=progress)
    for line in export_summary(run):
        print_line(line)
    if run.verification is not None and run.verification.differing:
        console.print(differing_table(run.verification))
    if run.chip is not None:
        console.print(chip_table(run.chip))
        for line in (*run.chip.sources, *run.chip.assumptions):
            print_line(f"  {line}")
    settings = flatten(checkpoint, options, coding)
    record = run_record("export", settings, run.figures(), checkpoint=pinned_reference(checkpoint.checkpoint))
    print_files(run.file, write_json(run.file.with_name(run.file.name + ".json"), record))
