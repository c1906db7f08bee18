"""`mst benchmark`: speed and memory of a simulation, beside its ANN and a plain loop over the steps."""

from __future__ import annotations

from pathlib import Path

from mst.experiments.benchmark_options import BenchmarkOptions
from mst.experiments.options import CodingOptions
from mst.options import flatten

from .display import console, print_files, print_line, progress_bar


def benchmark(
    options: BenchmarkOptions, coding: CodingOptions, gpu_suite: bool = False, output: Path = Path("runs/benchmark")
) -> None:
    """Time a simulation with and without counting, its ANN's pass and a plain loop over the steps, all in turns.

    The plain loop computes rate coding one step at a time with neurons in plain operations of torch, and with
    SpikingJelly's neurons if the package is installed. Writes benchmark.json and run_record.json.

    Example: mst benchmark mst_mini_patch2_window7_28 --time-steps 32 --batch-size 32
    Example: mst benchmark runs/masked/last.safetensors --coding lossless --burst 4 --time-steps 100

    Example: mst benchmark mst_tiny_patch4_window7_224 --gpu-suite --data-path data/fashion-mnist --output runs/gpu

    Args:
        options: the network and the size of the run.
        coding: how spikes carry activations.
        gpu_suite: Run everything that is to be known on a CUDA device, in at most 9 minutes: tests marked gpu,
            benchmarks of both codings, memory, training steps, a recipe. Of the other options --device and --data-path
            (the files of Fashion-MNIST) act. Call it again to continue; gpu_suite.json holds all results.
        output: Folder for the results.
    """
    from mst.experiments import run_benchmark, run_gpu_suite, run_record, write_run_record
    from mst.files import prepare_folder, write_json
    from mst.report import benchmark_summary, benchmark_table

    prepare_folder(output)
    if gpu_suite:
        with progress_bar() as progress:
            parts = run_gpu_suite(output, device=options.device, data_path=options.data_path, progress=progress)
        for title, found in parts.items():
            print_line(f"{title}: {found.get('error') or found.get('skipped') or 'done'}, {found['took_seconds']} s")
        print_files(output / "gpu_suite.json")
        return
    with progress_bar() as progress:
        run = run_benchmark(options, coding, progress=progress)
    console.print(benchmark_table(run))
    for line in benchmark_summary(run):
        print_line(line)
    settings = {**flatten(options, coding), "output": output}
    record = run_record("benchmark", settings, {"rows": run.rows()}, device=run.device)
    print_files(write_json(output / "benchmark.json", run.record()), write_run_record(output, record))
