"""Every requirement has a lower bound, and tests/oldest.py prints them."""

import re

from oldest import SETUP, constraints


def test_constraints_are_lower_bounds():
    settings = """
[options]
install_requires =
    captum>=0.8
    tomli>=2; python_version < "3.11"
[options.extras_require]
evaluation =
    pandas>=2.2
test =
    pytest>=7
"""
    assert constraints(settings) == [
        "captum==0.8",
        'tomli==2; python_version < "3.11"',
        "pandas==2.2",
    ]


def test_every_requirement_has_a_lower_bound():
    pinned = constraints(SETUP.read_text())
    assert len(pinned) > 10
    assert not [line for line in pinned if not re.match(r"[\w-]+==[\d.]+(;|$)", line)]
