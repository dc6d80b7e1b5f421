"""Methods with their arguments, from text: the language that commands share."""

import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any, NamedTuple

from torch import Tensor

from captum_ext._suggestions import known_name
from captum_ext._validation import check_choice
from captum_ext.attr import WindowVariant
from captum_ext.attr.image_sizes import Size
from captum_ext.attr.window_search import VARIANTS
from captum_ext.methods.argument_types import check_types
from captum_ext.methods.attribution_classes import (
    captum_methods,
    own_method,
    seeded_globally,
)
from captum_ext.methods.named_methods import METHODS, Method
from captum_ext.methods.reference_maps import CenterBox, MaxBox, RandomMap
from captum_ext.subject import Part, Subject

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "COMPARED",
    "Spec",
    "Specs",
    "describe_specs",
    "find_method",
    "method_options",
    "needed_parts",
    "read_methods",
    "read_specs",
    "used_methods",
]

COMPARED = METHODS | {
    "random": Method(
        "Random map",
        "a random grid, upsampled: a baseline for every method",
        RandomMap,
        lambda subject: {"seed": subject.seed},
        signed=False,
    ),
    "center-box": Method(
        "Center box",
        "a centered box of half the area, whatever the image",
        CenterBox,
        lambda _: {},
        signed=False,
    ),
    "max-box": Method(
        "Max box",
        "the whole image as one box",
        MaxBox,
        lambda _: {},
        signed=False,
    ),
}
"""Methods that can be evaluated: those of the command line and reference maps."""

Specs = str | Iterable[str] | Mapping[str, Mapping[str, Any]]

# Arguments that the evaluation sets itself, or that have no text form.
_EXCLUDED = {
    "additional_forward_args",
    "colors",
    "custom_attribution_func",
    "feature_mask",
    "grad_kwargs",
    "kwargs",
    "layer_mask",
    "objective",
    "reshape_transform",
    "return_convergence_delta",
    "return_input_shape",
    "return_posterior",
    "return_sizes",
    "return_std_error",
    "seed",
    "show_progress",
}

# Arguments with arguments of their own.
_NESTED = {"prior", "variant"}


class Spec(NamedTuple):
    """A method or a metric with its arguments.

    Attributes:
        use (str): Name in the registry.
        options (dict): Arguments by name.
    """

    use: str
    options: dict[str, Any]

    def attribute(
        self, subject: Subject
    ) -> tuple[Tensor, Tensor | dict[Size, bool] | None]:
        """Compute the map of a subject, and its standard error or the sizes tried.

        Args:
            subject (Subject): Image, target and settings.

        Returns:
            *tuple[Tensor, Tensor, dict or None]*: As
            :meth:`~captum_ext.methods.Method.attribute_with_details` returns them.
        """
        options = dict(self.options)
        if isinstance(options.get("prior"), Spec):
            options["prior"], _ = options["prior"].attribute(subject)
        with seeded_globally(subject.seed, subject.inputs.device):
            return find_method(self.use).attribute_with_details(subject, **options)

    def describe(self) -> dict[str, Any]:
        """Arguments by name, preceded by ``use``; nested specs become dicts as well."""
        arguments = {
            option: _described(value) for option, value in self.options.items()
        }
        return {"use": self.use} | arguments

    def completed(
        self, defaults: Mapping[str, Any], accepted: Collection[str]
    ) -> dict[str, Any]:
        """Arguments by name, with the defaults that are accepted and not given."""
        return {n: defaults[n] for n in defaults if n in accepted} | self.options


def _described(value: Any) -> Any:
    """A value as the text forms have it."""
    if isinstance(value, WindowVariant):
        return asdict(value)
    return value.describe() if isinstance(value, Spec) else value


def read_methods(given: Specs, colorwise: bool = False) -> dict[str, Spec]:
    """Parse the specs of methods.

    The ``prior`` of a method that takes one is "none", the name of a method, or
    arguments of one: ``borex:prior=rise:prior.n_masks=200``. Arguments without a name
    change those of the default prior. The ``variant`` of BOREx is a name, or choices of
    a :class:`~captum_ext.attr.WindowVariant`, which change those of the name:
    ``borex:variant=paper:variant.weighting=window``.

    A name is one of :data:`COMPARED`, that of one of Captum's attribution classes, such
    as ``DeepLift``, or a class of your own, ``FILE.py:CLASS`` or ``MODULE:CLASS``; see
    :func:`~captum_ext.methods.attribution_classes.class_method`.

    Args:
        given (str, iterable of str, or Mapping): Entries ``[AS=]NAME[:ARG=VALUE]...``,
            comma-separated or as an iterable; or a dict of arguments by name in the
            table, with the key ``use`` if the method has another name.
        colorwise (bool, optional): Whether methods may return one map per color.
            Default: False

    Returns:
        *dict[str, Spec]*: Specs by name in the table, in the given order. The option
        ``prior`` is None or a :class:`Spec`.

    Raises:
        ValueError: If a name is unknown or given twice, or a method does not take an
            argument, or not of its type, or returns one map per color.

    Examples::

        >>> read_methods("rise,quick=rise:n_masks=100:keep_probability=0.3")["quick"]
        Spec(use='rise', options={'n_masks': 100, 'keep_probability': 0.3})
        >>> read_methods("borex:prior=grad-cam++")["borex"].options
        {'prior': Spec(use='grad-cam++', options={})}
    """
    specs = read_specs("methods", given, find_method, COMPARED, method_options)
    for name, spec in specs.items():
        shaped = colorwise or spec.options.get("input_shaped")
        if find_method(spec.use).colorwise and not shaped:
            raise ValueError(
                f"methods must return one map per image, got {name!r}, which returns "
                f"one per color; {name}:input_shaped=true returns one."
            )
        plain = {n: v for n, v in spec.options.items() if n not in _NESTED}
        check_types("methods", name, find_method(spec.use).attribution.attribute, plain)
        method = find_method(spec.use)
        if method.prior is not None or "prior" in spec.options:
            prior = spec.options.get("prior", method.default_prior(spec.options))
            spec.options["prior"] = _read_prior(prior, method.prior or {})
        if "variant" in spec.options:
            spec.options["variant"] = _read_variant(spec.options["variant"])
    return specs


def _read_variant(given: Any) -> str | WindowVariant:
    """Variant of BOREx: a name, or that of windows and the choices that differ."""
    if not isinstance(given, Mapping):
        check_choice("variant", given, ("field", *VARIANTS))
        return given
    choices = {**given}
    use = choices.pop("use", "windows")
    known = [field.name for field in fields(WindowVariant)]
    for choice in choices:
        if choice not in known:
            raise ValueError(
                f"variant must have choices, each {known_name(choice, known)}."
            )
    check_choice("variant", use, tuple(VARIANTS))
    check_types("methods", "variant", WindowVariant, choices)
    return VARIANTS[use](**choices)


def _read_prior(given: Any, default: Mapping[str, Any]) -> Spec | None:
    """Spec of the method whose map is refined."""
    if given is None or given == "none":
        return None
    table = {"use": given} if isinstance(given, str) else given
    table = _table("prior", "prior", table)
    if "use" not in table:
        table = {**default, **table}
    return read_methods({"prior": table})["prior"]


def find_method(use: str) -> Method:
    """Find a method by its name, see :func:`read_methods`.

    Args:
        use (str): Name of a method.

    Returns:
        *Method*: Method.

    Raises:
        ValueError: If there is none of that name.
    """
    known = COMPARED | captum_methods()
    if ":" in str(use):
        return own_method(use)
    if use not in known:
        others = ", a class of captum.attr or your own FILE.py:CLASS"
        raise ValueError(f"methods must be {known_name(use, COMPARED, others, known)}.")
    return known[use]


def describe_specs(specs: Mapping[str, Spec]) -> dict[str, dict[str, Any]]:
    """Specs as plain dicts, which :func:`read_methods` parses as well.

    Args:
        specs (Mapping[str, Spec]): Methods or metrics by name in the table.

    Returns:
        *dict*: Arguments by name in the table, preceded by ``use``.
    """
    return {name: spec.describe() for name, spec in specs.items()}


def needed_parts(methods: Iterable[Spec]) -> frozenset[Part]:
    """Parts of a subject that methods and their priors are built from.

    Args:
        methods (iterable of Spec): Specs of :func:`read_methods`.

    Returns:
        *frozenset of str*: Parts that :attr:`~captum_ext.methods.Method.built_from`
        names.

    Examples::

        >>> sorted(needed_parts(read_methods("borex:prior=grad-cam").values()))
        ['layer', 'model', 'probabilities']
    """
    return frozenset(p for m in used_methods(methods) for p in m.built_from)


def used_methods(methods: Iterable[Spec]) -> list[Method]:
    """Methods of specs, and of the priors that they refine.

    Args:
        methods (iterable of Spec): Specs of :func:`read_methods`.

    Returns:
        *list[Method]*: Methods.
    """
    found = []
    for spec in methods:
        found.append(find_method(spec.use))
        prior = spec.options.get("prior")
        if isinstance(prior, Spec):
            found += used_methods([prior])
    return found


def method_options(method: Method) -> frozenset[str]:
    """Names of the arguments of a method that a spec may set.

    Args:
        method (Method): Method.

    Returns:
        *frozenset of str*: Names.
    """
    return method.options() - _EXCLUDED


def read_specs(
    kind: str,
    given: Specs,
    find: Callable[[str], Any],
    registry: Collection[str],
    options_of: Callable[[Any], frozenset[str]],
) -> dict[str, Spec]:
    """Parse specs of any registry.

    Args:
        kind (str): Name of the argument, for errors.
        given (str, iterable of str, or Mapping): Entries as in :func:`read_methods`.
        find (Callable): Function that returns an entry of the registry by its name.
        registry (collection of str): Names of the registry.
        options_of (Callable): Function from such an entry to the names of its options.

    Returns:
        *dict[str, Spec]*: Specs by name, in the given order.

    Raises:
        ValueError: If a name is unknown or given twice, or an argument is not taken.
    """
    if isinstance(given, Mapping):
        entries = [(name, _table(kind, name, each)) for name, each in given.items()]
    else:
        texts = given.split(",") if isinstance(given, str) else given
        entries = [_parse(kind, text.strip(), registry) for text in texts]
    specs: dict[str, Spec] = {}
    for name, options in entries:
        use = options.pop("use", name)
        found = find(use)
        if name in specs or not re.fullmatch(r"\w[\w.+-]*", name):
            raise ValueError(
                f"{kind} must have different names of letters, digits and . + - _, got "
                f"{name!r}."
            )
        known = options_of(found)
        for option in options:
            if option not in known:
                problem = known_name(option, sorted(known) or ["none"])
                raise ValueError(
                    f"{kind} must have arguments of {use}, each {problem}."
                )
        specs[name] = Spec(use, options)
    if not specs:
        raise ValueError(f"{kind} must be at least one, got none.")
    return specs


def _table(kind: str, name: str, options: object) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise ValueError(f"{kind} must have tables of arguments, got {name}={options}.")
    return dict(options)


def _parse(
    kind: str, text: str, registry: Collection[str]
) -> tuple[str, dict[str, Any]]:
    """Name and arguments of an entry."""
    head, *arguments = text.split(":")
    name, _, use = head.rpartition("=")
    if use not in registry and arguments and "=" not in arguments[0]:
        # The name itself is FILE.py:NAME.
        own = arguments.pop(0)
        name, use = name or own, f"{use}:{own}"
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
        # prior=rise:prior.n_masks=100 is a single table.
        table = outer if isinstance(outer, dict) else {"use": outer}
        options[option] = table | {inner: _value(value)}
    return name or use, options


def _value(text: str) -> Any:
    """Parse a value as TOML does; strings need no quotation marks."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    # TOML reads 2024-01-01 as a date.
    return value if isinstance(value, (bool, int, float, str, list)) else text
