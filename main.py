"""The commands of the paper's released code, word for word: see docs/released.md."""

import sys

from mst.cli.released import main

if __name__ == "__main__":
    sys.exit(main())
