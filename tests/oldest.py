"""Prints the oldest supported versions of what the package needs, for pip.

    pip install --constraint <(python tests/oldest.py) -e . pytest

They are the lower bounds of setup.cfg.
"""

from configparser import RawConfigParser
from pathlib import Path

SETUP = Path(__file__).parent.parent / "setup.cfg"


def constraints(settings: str) -> list[str]:
    """Each requirement of a setup.cfg, pinned to its lower bound."""
    parser = RawConfigParser()
    parser.read_string(settings)
    requirements = parser["options"]["install_requires"].strip().splitlines()
    return [requirement.replace(">=", "==", 1) for requirement in requirements]


if __name__ == "__main__":
    print("\n".join(constraints(SETUP.read_text())))
