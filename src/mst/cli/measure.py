"""`mst measure`: what a spiking network costs, beside the ANN it came from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from mst.conversion import Coding
from mst.data import BadImages
from mst.distributed import is_main_process
from mst.files import write_json
from mst.measure import HOROWITZ_45NM_FP32, EnergyConstants, estimate_energy
from mst.neurons import ScheduleName
from mst.report import (
    energy_bars,
    energy_table,
    firing_rates,
    measurement_record,
    operation_table,
    run_record,
    steps_in_words,
    write_run_record,
)
from mst.simulation import ExitRule

from .common import console, masking_ratio_of, open_run, prepare_output, print_files
from .spiking_run import CodingOptions, ExitOptions, about_steps, run_both


def measure(
    checkpoint: Path,
    dataset: str | None = None,
    data_path: Path | None = None,
    time_steps: int = 64,
    output: Path = Path("runs/measure"),
    mac_pj: float = 4.6,
    ac_pj: float = 0.9,
    coding: Coding = "rate",
    burst: int = 1,
    schedule: ScheduleName | None = None,
    resting_images: int = 0,
    input_steps: int = 1,
    early_exit: ExitRule | None = None,
    exit: ExitOptions = ExitOptions(),  # noqa: B008  --exit.loss; frozen
    slices: int | None = None,
    batch_size: int = 32,
    steps_per_chunk: int | None = None,
    max_images: int | None = None,
    masking_ratio: float | None = None,
    mask_sites: tuple[str, ...] | None = None,
    seed: int = 0,
    device: str = "auto",
    num_workers: int = 0,
    on_bad_image: BadImages = "fail",
) -> None:
    """Count the operations of a spiking network from its recorded spikes, and price them.

    Prints every operation with what drives it, and the totals of SNN and ANN. Writes measurement.json, energy.png,
    firing_rates.png and run_record.json.

    Example: mst measure runs/masked/last.safetensors --time-steps 32 --max-images 100

    Args:
        checkpoint: a .safetensors file of `mst train` or `mst import`.
        dataset: name; the checkpoint's own by default.
        data_path: folder with the data set's files.
        time_steps: T.
        output: folder for the results.
        mac_pj: energy of a multiply-accumulate, in pJ; 4.6 is 32-bit floating point at 45 nm.
        ac_pj: energy of an accumulate, in pJ; 0.9 is 32-bit floating point at 45 nm.
        coding: how spikes carry activations: rate, by their mean over time; lossless, by signed spikes that send what
            has changed, until the answer equals the ANN's.
        burst: lossless: most spikes of a neuron in one step; more need fewer steps.
        schedule: lossless: weighted (the default), where a spike is worth 8, 4, 2, 1, 1 quanta in turn (for L = 16) and
            the fewest are needed; with spikes of one quantum: staggered, deeper sites start later; plain, all at once.
        resting_images: lossless: neurons start from their median level over so many training images; 0: from nothing.
        input_steps: lossless: spread the image over so many steps.
        early_exit: let an image leave once its answer is safe: margin, the largest logit is far above the next;
            stability, the prediction has not changed for some steps. The value is chosen on validation images.
        exit: what early exit may cost.
        slices: cut each recording of an event camera into so many parts over time and show them one after another, as
            many steps each as T allows; T of them give each step its own. By default every step sees the whole
            recording. For networks that were trained with --events.num-bins 1.
        batch_size: images at once; more may pay on a GPU, fewer need less memory.
        steps_per_chunk: time steps computed at once; changes the speed, and the result by float32 rounding only.
        max_images: use the first so many test images only.
        masking_ratio: other than the checkpoint's.
        mask_sites: where that ratio acts, and nowhere else: all, attention, mlp, a role or a glob of site names; by
            default where the checkpoint masks.
        seed: of the masks.
        device: auto, cpu, cuda, cuda:1, mps, ...
        num_workers: processes that prepare images.
        on_bad_image: at an image file or a recording that cannot be read: fail, or skip it and say so.
    """
    settings = dict(locals())
    options = CodingOptions(coding, burst, schedule, resting_images, input_steps)
    prepare_output(output)
    constants = EnergyConstants(mac_pj, ac_pj, _source(mac_pj, ac_pj))
    opened = open_run(
        checkpoint,
        dataset,
        data_path,
        batch_size,
        max_images,
        masking_ratio,
        device,
        num_workers,
        on_bad_image,
        mask_sites,
    )
    simulated = run_both(
        opened, time_steps, options, steps_per_chunk, seed, slices, early_exit, exit, must_be_priced=True
    )
    if not is_main_process():
        return
    estimate = estimate_energy(simulated.result, constants)
    label = f"p = {masking_ratio_of(opened.model):g}"
    console.print(operation_table(estimate))
    console.print(energy_table({label: estimate}))
    for line in about_steps(simulated):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"Constants: MAC {mac_pj} pJ, AC {ac_pj} pJ; {constants.source}. Assumptions:", highlight=False)
    for assumption in estimate.assumptions:
        console.print(f"  - {assumption}", highlight=False)
    content = measurement_record(estimate, simulated.result)
    assert simulated.result.accuracy is not None
    content |= opened.facts() | {
        "slices": slices,
        "options": asdict(options),
        "early_exit_calibration": simulated.calibration,
        "ann_accuracy": simulated.ann_accuracy,
        "snn_accuracy": float(simulated.result.accuracy[-1]),
    }
    steps = steps_in_words(estimate.num_steps, estimate.mean_steps)
    shown = "" if slices is None else f", {slices} slices over time"
    summary = {key: content[key] for key in ("energy_pj", "num_macs", "num_acs", "energy_ratio", "firing_rate")}
    record = run_record("measure", settings, summary, seed=seed, **opened.facts())
    print_files(
        write_json(output / "measurement.json", content),
        energy_bars({label: estimate}, output / "energy.png", f"{opened.data.info.name}, {steps}{shown}"),
        firing_rates(simulated.result.firing_rates, simulated.result.firing_rate, output / "firing_rates.png"),
        write_run_record(output, record),
    )


def _source(mac_pj: float, ac_pj: float) -> str:
    known = (mac_pj, ac_pj) == (HOROWITZ_45NM_FP32.mac_pj, HOROWITZ_45NM_FP32.ac_pj)
    return HOROWITZ_45NM_FP32.source if known else "as given on the command line"
