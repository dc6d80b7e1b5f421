"""Run captum-ext as ``python -m captum_ext``."""

import sys

from captum_ext.cli import main

if __name__ == "__main__":
    sys.exit(main())
