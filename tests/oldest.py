"""Print the oldest supported versions of the package's requirements, for pip.

    pip install --constraint <(python tests/oldest.py) -e ".[evaluation]" pytest

They are the lower bounds of setup.cfg.
"""

from configparser import RawConfigParser
from pathlib import Path

SETUP = Path(__file__).parent.parent / "setup.cfg"


def constraints(settings: str) -> list[str]:
    """Requirements of a setup.cfg and its evaluation extra, at their lower bounds."""
    parser = RawConfigParser()
    parser.read_string(settings)
    required = parser["options"]["install_requires"]
    extra = parser["options.extras_require"]["evaluation"]
    requirements = f"{required}{extra}".strip().splitlines()
    return [requirement.replace(">=", "==", 1) for requirement in requirements]


if __name__ == "__main__":
    print("\n".join(constraints(SETUP.read_text())))
