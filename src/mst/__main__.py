"""`python -m mst`, and so `torchrun -m mst`: the command line."""

import sys

from mst.cli.main import main

sys.exit(main())
