"""Options of small runs, which take about a second where the defaults take ten."""

from __future__ import annotations

TINY_MST = ["--model-kwargs.embed-dim", "8", "--model-kwargs.depths", "1,1", "--model-kwargs.num-heads", "1,1"]
"""The default network with one block per stage, of 8 and 16 channels."""

FEW_IMAGES = ["--train-images", "128", "--train.batch-size", "32", "--train.eval-batch-size", "360"]
"""Four steps per epoch on digits."""
