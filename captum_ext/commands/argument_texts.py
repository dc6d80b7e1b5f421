"""Descriptions of the arguments of a function, from its docstring."""

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["ArgumentText", "argument_texts"]

_ARGUMENT = re.compile(r"(\w+) \((.+?)\): +(.+)")
# Cross references and literals, as Sphinx reads them.
_MARKUP = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`|``(.+?)``")
_DEFAULT = re.compile(r" *Default: .*")


class ArgumentText(NamedTuple):
    """What a docstring says of an argument.

    Args:
        kind (str): Its type.
        text (str): What it means, without its default.
    """

    kind: str
    text: str


def argument_texts(function: Callable[..., Any]) -> dict[str, ArgumentText]:
    """Descriptions of the arguments of a function, from its docstring.

    Args:
        function (Callable): Function whose docstring has a section "Args:", each
            argument as in ``name (type, optional): Text. Default: 1``.

    Returns:
        *dict[str, ArgumentText]*: By name, of those that are described.

    Examples::

        >>> argument_texts(argument_texts)["function"].kind
        'Callable'
    """
    found = {}
    for entry in _entries(inspect.getdoc(function) or ""):
        if match := _ARGUMENT.match(entry):
            name, kind, text = match.groups()
            text = _DEFAULT.sub("", _MARKUP.sub(lambda m: m[1] or m[2], text))
            found[name] = ArgumentText(kind.removesuffix(", optional"), text)
    return found


def _entries(docstring: str) -> list[str]:
    """Entries of the section "Args:", each in one line."""
    entries: list[str] = []
    _, _, section = docstring.partition("Args:\n")
    lines = [line for line in section.splitlines() if line.strip()]
    depths = [len(line) - len(line.lstrip()) for line in lines]
    for line, depth in zip(lines, depths):
        if depth < depths[0]:
            break
        if depth == depths[0]:
            entries.append(line.strip())
        else:
            entries[-1] += f" {line.strip()}"
    return entries
