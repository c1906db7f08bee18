"""`mst predict`: what a network says about files of your own, step by step."""

from __future__ import annotations

from pathlib import Path

from mst.experiments.options import CodingOptions
from mst.experiments.predict_options import PredictionOptions
from mst.options import flatten

from .display import console, print_files, print_line, progress_bar


def predict(
    options: PredictionOptions, coding: CodingOptions, paths: tuple[Path, ...], output: Path = Path("runs/predict")
) -> None:
    """Classify pictures, arrays of pixels or recordings of an event camera, with the answer after every time step.

    Files are preprocessed as the network's test images were: resized, in grey or colour, normalised. What they show
    must look like the training images (Fashion-MNIST: light on black). Writes predictions.json, predictions.png and
    run_record.json. Files that cannot be read are named; the others are classified, and the exit code is 1.

    Example: mst predict zoo:fashion-mnist-mst shirt.png photos/ --coding lossless --burst 4
    Example: mst predict runs/dvs/last.safetensors recording.aedat4

    Args:
        options: the network, and how long it looks.
        coding: how spikes carry activations.
        paths: Files, or folders in which all files of that kind are taken.
        output: Folder for the results.
    """
    from mst.errors import InputError
    from mst.experiments import predict, run_record, write_run_record
    from mst.files import prepare_folder, write_json
    from mst.report import draw_predictions, prediction_summary, prediction_table

    prepare_folder(output)
    with progress_bar() as progress:
        run = predict(paths, options, coding, progress=progress)
    console.print(prediction_table(run))
    for line in prediction_summary(run):
        print_line(line)
    settings = {**flatten(options, coding), "paths": paths, "output": output}
    figures = {"num_files": len(run.predictions), "num_unreadable": len(run.unreadable)}
    record = run_record("predict", settings, figures, seed=options.seed, checkpoint=run.checkpoint)
    written = [write_json(output / "predictions.json", run.record())]
    if run.drawn:
        written.append(draw_predictions(run, output / "predictions.png"))
    print_files(*written, write_run_record(output, record))
    if run.unreadable:
        raise InputError(f"{len(run.unreadable)} of the files cannot be read; the others are classified")
