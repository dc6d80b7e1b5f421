"""Values of arguments: against the types that a function declares, and by trial."""

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from torch import Tensor, nn

__all__ = ["TrialModel", "check_types", "names_argument", "refused_value"]

# Types whose values have a text form, one and several; their lists have one as well.
_WORDS = {
    bool: ("true or false", "true or false"),
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
}


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
                f"{kind} must give {name} {_expected(hint) or 'an object of Python'} "
                f"as {option}, got {value!r}."
            )


class _CalledError(Exception):
    """A model was called, so that the values of all arguments are accepted."""


class TrialModel(nn.Module):
    """A model that ends a trial of arguments when it is called.

    Args:
        model (nn.Module): The model, whose layers and parameters it has.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, *_: object) -> Tensor:
        raise _CalledError


def refused_value(compute: Callable[[], object], names: Collection[str]) -> str:
    """Find out whether a method or a metric refuses the value of an argument.

    Those of this package check all values before they call the model.

    Args:
        compute (Callable): Function that computes a map or a value with a
            :class:`TrialModel`.
        names (collection of str): Names of arguments.

    Returns:
        *str*: Message of the error that begins with one of the names; empty without
        such an error.

    Examples::

        >>> import torch
        >>> from captum_ext.attr import RISE
        >>> x, method = torch.rand(1, 3, 32, 32), RISE(TrialModel(torch.nn.Flatten()))
        >>> refused_value(lambda: method.attribute(x, target=0, n_masks=0), {"n_masks"})
        'n_masks must be at least 2, got 0.'
    """
    try:
        compute()
    except (TypeError, ValueError) as error:
        return str(error) if names_argument(error, names) else ""
    except Exception:  # Of a model that was called, or of the image.
        return ""
    return ""


def names_argument(error: Exception, names: Collection[str]) -> bool:
    """Whether the message of an error begins with the name of an argument.

    Args:
        error (Exception): Error.
        names (collection of str): Names of arguments.
    """
    first = re.match(r"\w*", str(error))
    return first is not None and first[0] in names


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


def _expected(hint: Any, several: bool = False) -> str:
    """What a value may be, or several values, of that which can be written."""
    words = dict.fromkeys(_words(hint, several))
    if _WORDS[float][several] in words:
        words.pop(_WORDS[int][several], None)
    return " or ".join(words)


def _words(hint: Any, several: bool) -> list[str]:
    members, elements = _members(hint), _elements(hint)
    if members:
        return [words for each in members for words in _words(each, several)]
    if get_origin(hint) is Literal:
        return [repr(each) for each in get_args(hint)]
    if hint in _WORDS:
        return [_WORDS[hint][several]]
    of = elements and _expected(Union[elements], True)  # noqa: UP007
    return [f"{'lists' if several else 'a list'} of {of}"] if of else []
