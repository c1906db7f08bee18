"""`mst diagnose`: where quantisation costs accuracy, and which bits and time steps are enough."""

from __future__ import annotations

from pathlib import Path

from mst.experiments.diagnosis_options import DiagnosedCheckpoint, DiagnosisOptions
from mst.options import flatten

from .display import console, print_files, print_line, progress_bar


def diagnose(checkpoint: DiagnosedCheckpoint, trials: DiagnosisOptions, output: Path = Path("runs/diagnose")) -> None:
    """Find out where quantisation costs accuracy in a checkpoint, and which bits and time steps would be enough.

    Prints for each site the error that it adds, that arrives and that it passes on, its effect on the output, the
    levels it uses, what it clips and what it rounds to 0; then the sites to change first, the network with other
    levels, and the time steps of a spiking network. Writes diagnosis.json, diagnosis.csv, diagnosis.png and
    run_record.json.

    Example: mst diagnose runs/masked/last.safetensors --max-images 32

    Args:
        checkpoint: the network and the images.
        trials: what to try.
        output: Folder for the results.
    """
    from mst.distributed import is_main_process
    from mst.experiments import run_diagnosis, run_record, write_run_record
    from mst.files import prepare_folder, write_json
    from mst.report import diagnosis_figure, diagnosis_summary, diagnosis_table, write_diagnosis_csv

    prepare_folder(output)
    with progress_bar() as progress:
        run = run_diagnosis(checkpoint, trials, progress=progress)
    if not is_main_process():
        return
    diagnosis, facts = run.diagnosis, run.opened.facts()
    console.print(diagnosis_table(diagnosis))
    for line in diagnosis_summary(diagnosis, trials.agreement):
        print_line(line)
    title = f"{run.opened.checkpoint.name} on {facts['dataset']}, {diagnosis.num_images} images"
    settings = {**flatten(checkpoint, trials), "output": output}
    results = {"output": diagnosis.output, "remedies": diagnosis.remedies}
    record = run_record("diagnose", settings, results, seed=trials.seed, **facts)
    print_files(
        write_json(output / "diagnosis.json", {**facts, "diagnosis": diagnosis}),
        write_diagnosis_csv(output / "diagnosis.csv", diagnosis),
        diagnosis_figure(diagnosis, output / "diagnosis.png", title),
        write_run_record(output, record),
    )
