"""Which methods and metrics are compared, with which arguments: by name, checked."""

import difflib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from captum_ext.evaluation.named_metrics import METRICS, Metric
from captum_ext.evaluation.reference_maps import CenterBox, MaxBox, RandomMap
from captum_ext.methods import METHODS, Method, Part

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "COMPARED",
    "Choice",
    "Choices",
    "describe_choices",
    "needed_parts",
    "read_metrics",
    "read_methods",
]

COMPARED = METHODS | {
    "random": Method(
        "Random map",
        "a random grid, enlarged: the floor of every table",
        RandomMap,
        lambda subject: {"seed": subject.seed},
    ),
    "center-box": Method(
        "Center box",
        "a centered box of half the area, whatever the image shows",
        CenterBox,
        lambda _: {},
    ),
    "max-box": Method(
        "Max box",
        "the whole image as one box",
        MaxBox,
        lambda _: {},
    ),
}
"""The methods that can be compared: those of the command line, and reference maps."""

Choices = str | Iterable[str] | Mapping[str, Mapping[str, Any]]

# What the evaluation sets by itself, or what cannot be written in a few words.
_NOT_FREE = {
    "additional_forward_args",
    "colors",
    "feature_mask",
    "layout",
    "objective",
    "reshape_transform",
    "return_convergence_delta",
    "return_posterior",
    "return_std_error",
    "seed",
    "show_progress",
}


class Choice(NamedTuple):
    """A method or a metric with arguments.

    Attributes:
        use (str): Name in the registry.
        options (dict): Arguments by name.
    """

    use: str
    options: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """Arguments by name with ``use`` first; choices in them are described too."""
        arguments = {
            option: value.describe() if isinstance(value, Choice) else value
            for option, value in self.options.items()
        }
        return {"use": self.use} | arguments


def read_methods(given: Choices) -> dict[str, Choice]:
    """Methods and their arguments, by their names in the table.

    A method that refines a map takes the ``prior`` "none", the name of a method, or
    arguments of one: ``borex:prior=rise:prior.n_masks=200``, where arguments without a
    name change those of its usual prior.

    Args:
        given (str, iterable of str, or Mapping): Entries ``[AS=]NAME[:ARG=VALUE]...``,
            in one text separated by commas or one by one; or arguments by name, with
            the argument ``use`` where the name in the table is another.

    Returns:
        *dict[str, Choice]*: In the order given. The option ``prior`` is None or a
        :class:`Choice`.

    Raises:
        ValueError: If a name is unknown or given twice, a method does not take an
            argument, or it gives one map a color.

    Examples::

        >>> read_methods("rise,quick=rise:n_masks=100:keep_probability=0.3")["quick"]
        Choice(use='rise', options={'n_masks': 100, 'keep_probability': 0.3})
        >>> read_methods("borex:prior=grad-cam++")["borex"].options
        {'prior': Choice(use='grad-cam++', options={})}
    """
    choices = _read("methods", given, COMPARED, _method_options)
    for name, choice in choices.items():
        if COMPARED[choice.use].colorwise and not choice.options.get("input_shaped"):
            raise ValueError(
                f"methods must give one map of an image, got {name!r}, which gives "
                f"one a color; {name}:input_shaped=true gives one."
            )
        usual = COMPARED[choice.use].prior
        if usual is not None:
            prior = choice.options.get("prior", usual)
            choice.options["prior"] = _read_prior(prior, usual)
    return choices


def _read_prior(given: Any, usual: Mapping[str, Any]) -> "Choice | None":
    """The method whose map is refined."""
    if given is None or given == "none":
        return None
    table = (
        {"use": given} if isinstance(given, str) else _table("prior", "prior", given)
    )
    return read_methods({"prior": table if "use" in table else {**usual, **table}})[
        "prior"
    ]


def read_metrics(given: Choices) -> dict[str, Choice]:
    """Metrics and their arguments, by their names in the table.

    Args:
        given (str, iterable of str, or Mapping): As in :func:`read_methods`.

    Returns:
        *dict[str, Choice]*: In the order given.

    Raises:
        ValueError: If a name is unknown or given twice, or a metric does not take an
            argument.

    Examples::

        >>> read_metrics({"blurred": {"use": "insertion", "baselines": "blur"}})
        {'blurred': Choice(use='insertion', options={'baselines': 'blur'})}
    """
    return _read("metrics", given, METRICS, Metric.options)


def describe_choices(choices: Mapping[str, Choice]) -> dict[str, dict[str, Any]]:
    """Choices as plain dicts, which :func:`read_methods` takes as well.

    Args:
        choices (Mapping[str, Choice]): Methods or metrics.

    Returns:
        *dict*: Arguments by name, the first one ``use``.
    """
    return {name: choice.describe() for name, choice in choices.items()}


def needed_parts(methods: Iterable[Choice]) -> frozenset[Part]:
    """Parts of a subject that methods are built from, or those whose maps they refine.

    Args:
        methods (iterable of Choice): Of :func:`read_methods`.

    Returns:
        *frozenset of str*: What :attr:`~captum_ext.methods.Method.built_from` may name.

    Examples::

        >>> sorted(needed_parts(read_methods("borex:prior=grad-cam").values()))
        ['layer', 'model', 'probabilities']
    """
    parts: set[Part] = set()
    for choice in methods:
        parts.update(COMPARED[choice.use].built_from)
        prior = choice.options.get("prior")
        if isinstance(prior, Choice):
            parts |= needed_parts([prior])
    return frozenset(parts)


def _method_options(method: Method) -> frozenset[str]:
    return method.options() - _NOT_FREE


def _read(
    kind: str,
    given: Choices,
    registry: Mapping[str, Any],
    options_of: Callable[[Any], frozenset[str]],
) -> dict[str, Choice]:
    if isinstance(given, Mapping):
        entries = [(name, _table(kind, name, each)) for name, each in given.items()]
    else:
        texts = given.split(",") if isinstance(given, str) else given
        entries = [_parse(kind, text.strip()) for text in texts]
    choices: dict[str, Choice] = {}
    for name, options in entries:
        use = options.pop("use", name)
        if use not in registry:
            raise ValueError(
                f"{kind} must be among {', '.join(registry)}, got {use!r}"
                f"{_similar(use, registry)}."
            )
        if name in choices or not re.fullmatch(r"\w[\w.+-]*", name):
            raise ValueError(
                f"{kind} must have different names of letters, digits and . + - _, got "
                f"{name!r}."
            )
        known = options_of(registry[use])
        for option in options:
            if option not in known:
                takes = f"takes {', '.join(sorted(known))}" if known else "takes none"
                raise ValueError(
                    f"{kind} must have arguments that they take, got {option!r} for "
                    f"{use!r}, which {takes}."
                )
        choices[name] = Choice(use, options)
    if not choices:
        raise ValueError(f"{kind} must be at least one, got none.")
    return choices


def _table(kind: str, name: str, options: object) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise ValueError(f"{kind} must have tables of arguments, got {name}={options}.")
    return dict(options)


def _parse(kind: str, text: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of one entry."""
    head, *arguments = text.split(":")
    name, _, use = head.rpartition("=")
    options: dict[str, Any] = {"use": use}
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if not equals:
            raise ValueError(
                f"{kind} must be written [AS=]NAME[:ARG=VALUE]..., got {text!r}."
            )
        option, dot, inner = option.partition(".")
        if not dot:
            options[option] = _value(value)
            continue
        outer = options.get(option, {})
        # prior=rise:prior.n_masks=100 is one table.
        table = outer if isinstance(outer, dict) else {"use": outer}
        options[option] = table | {inner: _value(value)}
    return name or use, options


def _value(text: str) -> Any:
    """A value as TOML has it; text needs no quotation marks."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    # Not 2024-01-01, which TOML takes for a date.
    return value if isinstance(value, (bool, int, float, str, list)) else text


def _similar(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), list(names), 1)
    return f", perhaps {close[0]!r}" if close else ""
