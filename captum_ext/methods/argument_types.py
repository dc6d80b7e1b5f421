"""Values of arguments against the types that a function declares."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

__all__ = ["check_types"]

# Types whose values have a text form; their lists have one as well.
_WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}


def check_types(
    kind: str, name: str, function: Callable[..., Any], options: Mapping[str, Any]
) -> None:
    """Refuse values of other types than a function declares, before any is used.

    Types that are unknown here, such as those of a file that is not imported, accept
    every value.

    Args:
        kind (str): What the values are arguments of, "methods" or "metrics".
        name (str): Name of the method or metric.
        function (Callable): Function that takes the values by name.
        options (Mapping): Values by name.

    Raises:
        ValueError: If a value is of another type.

    Examples::

        >>> def blur(sigma: float): ...
        >>> check_types("methods", "blur", blur, {"sigma": "wide"})
        Traceback (most recent call last):
        ValueError: methods must give blur a number as sigma, got 'wide'.
    """
    function = inspect.unwrap(function)
    parameters = inspect.signature(function).parameters
    for option, value in options.items():
        if option not in parameters:
            continue
        hint = _hint(parameters[option].annotation, function)
        if not _accepts(hint, value):
            raise ValueError(
                f"{kind} must give {name} {_expected(hint)} as {option}, got {value!r}."
            )


def _hint(annotation: Any, function: Callable[..., Any]) -> Any:
    """Type of an annotation, which may be written as text; Any if it is unknown."""
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, getattr(function, "__globals__", {}))
    except Exception:  # Such as a name that only type checkers import.
        return Any


def _members(hint: Any) -> tuple[Any, ...]:
    """Types of a union or of a type variable, otherwise none."""
    if isinstance(hint, TypeVar):
        return hint.__constraints__ or (Any,)
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else ()


def _elements(hint: Any) -> tuple[Any, ...] | None:
    """Types of the elements of a sequence; None if it is not one."""
    origin = get_origin(hint) or hint
    if not isinstance(origin, type) or not issubclass(origin, Sequence):
        return None
    return tuple(each for each in get_args(hint) if each is not ...) or (Any,)


def _accepts(hint: Any, value: Any) -> bool:
    members, elements = _members(hint), _elements(hint)
    if hint is Any:
        return True
    if members:
        return any(_accepts(each, value) for each in members)
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint in _WORDS:
        kinds = (int, float) if hint is float else hint
        return isinstance(value, kinds) and isinstance(value, bool) <= (hint is bool)
    if elements is not None:
        return isinstance(value, (list, tuple)) and all(
            any(_accepts(each, element) for each in elements) for element in value
        )
    # On Python 3.10, list[int] is an instance of type.
    if hint is None or (isinstance(hint, type) and get_origin(hint) is None):
        return isinstance(value, hint or NoneType)
    return get_origin(hint) is not Callable


def _expected(hint: Any) -> str:
    words = dict.fromkeys(_words(hint))
    if _WORDS[float] in words:
        words.pop(_WORDS[int], None)
    return " or ".join(words) or "an object of Python"


def _words(hint: Any) -> list[str]:
    """What a value may be, of that which can be written."""
    members = _members(hint)
    if members:
        return [words for each in members for words in _words(each)]
    if get_origin(hint) is Literal:
        return [repr(each) for each in get_args(hint)]
    if hint in _WORDS:
        return [_WORDS[hint]]
    elements = _elements(hint)
    writable = elements and [words for each in elements for words in _words(each)]
    return ["a list"] if writable else []
