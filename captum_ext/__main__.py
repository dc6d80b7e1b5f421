"""Lets ``python -m captum_ext`` stand for the command captum-ext."""

import sys

from captum_ext.cli import main

if __name__ == "__main__":
    sys.exit(main())
