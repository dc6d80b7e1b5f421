"""Commands captum-ext models, methods and metrics: what can be named."""

import argparse
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from textwrap import fill, indent
from typing import TYPE_CHECKING, Any

from captum_ext._extras import MissingExtraError, extra
from captum_ext._suggestions import did_you_mean
from captum_ext.commands.argument_texts import argument_texts

if TYPE_CHECKING:
    from captum_ext.methods import Method

__all__ = ["add_parser"]

_ABOUT = {
    "models": "classifiers by where they come from, as --model takes them",
    "methods": "attribution methods, as --method and --methods take them, and what "
    "NAME:ARG=VALUE may set",
    "metrics": "metrics, as --metrics takes them, with the better direction and what "
    "NAME:ARG=VALUE may set",
}
_WIDTH = 88


def add_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str
) -> None:
    """Add one of the commands to captum-ext.

    Args:
        commands (argparse action): Result of ``add_subparsers``.
        name (str): "models", "methods" or "metrics".
    """
    parser = commands.add_parser(name, description=f"List {_ABOUT[name]}.")
    parser.add_argument(
        "word",
        nargs="?",
        default="",
        metavar="WORD",
        help="list only what has this text in its name"
        + "; of one name, what its arguments mean" * (name != "models"),
    )
    listed, names = {
        "models": (_models, _model_names),
        "methods": (_methods, _method_names),
        "metrics": (_metrics, _metric_names),
    }[name]
    parser.set_defaults(run=lambda options: _print(listed, names, options.word))


def _print(
    listed: Callable[[str], list[str]], names: Callable[[], list[str]], word: str
) -> None:
    lines = listed(word)
    if not lines:
        hint = did_you_mean(word, names())
        raise ValueError(f"WORD must be part of a name{hint}, got {word!r}.")
    print("\n".join(lines))


def _entry(name: str, summary: str, arguments: Iterable[str]) -> list[str]:
    """Name, summary and arguments of a method or a metric."""
    taken = ", ".join(sorted(arguments)) or "none"
    return [f"{name:24}{summary}", _wrapped(f"arguments: {taken}", 24, 2)]


def _wrapped(text: str, margin: int, hanging: int = 0) -> str:
    """Lines of a text with a margin, which is larger from the second line on."""
    first, others = " " * margin, " " * (margin + hanging)
    return fill(text, _WIDTH, initial_indent=first, subsequent_indent=others)


def _details(
    name: str,
    summary: str,
    arguments: Collection[str],
    function: Callable[..., Any],
    defaults: Mapping[str, Any],
) -> list[str]:
    """Name and summary, and below each argument its type, default and meaning."""
    function = inspect.unwrap(function)
    texts = argument_texts(function)
    lines = [f"{name:24}{summary}", "arguments:" if arguments else "no arguments"]
    for argument, parameter in inspect.signature(function).parameters.items():
        if argument in arguments:
            default = defaults.get(argument, parameter.default)
            shown = "" if default is parameter.empty else f"={default}"
            kind, text = texts.get(argument, ("any type", "Not described."))
            lines += [_wrapped(f"{argument}{shown} ({kind})", 2, 4), _wrapped(text, 6)]
    return lines


def _names(title: str, names: Iterable[str]) -> list[str]:
    """A title with names below it, if there are any."""
    text = ", ".join(names)
    if not text:
        return []
    # Names hold hyphens.
    wrapped = fill(text, _WIDTH - 2, break_on_hyphens=False)
    return [title, indent(wrapped, "  ")]


def _method_names() -> list[str]:
    from captum_ext.methods.attribution_classes import captum_methods
    from captum_ext.methods.specs import COMPARED

    return [*COMPARED, *captum_methods()]


def _methods(word: str) -> list[str]:
    from captum_ext.methods.attribution_classes import captum_methods
    from captum_ext.methods.specs import COMPARED, method_options

    if word in (every := {**COMPARED, **captum_methods()}):
        return _method_details(word, every[word])
    word = word.lower()
    ours = {n: m for n, m in COMPARED.items() if word in n}
    classes = {n: m for n, m in captum_methods().items() if word in n.lower()}
    if len(both := {**ours, **classes}) == 1:
        [(name, method)] = both.items()
        return _method_details(name, method)
    lines = []
    for name, method in ours.items():
        lines += _entry(name, method.summary, method_options(method))
    lines += _names("Captum's, by class name:", classes)
    if not word:
        lines.append("your own: FILE.py:CLASS or MODULE:CLASS")
    return lines


def _method_details(name: str, method: "Method") -> list[str]:
    from captum_ext.methods.specs import method_options

    function, options = method.attribution.attribute, method_options(method)
    return _details(name, method.summary, options, function, method.defaults)


def _metric_names() -> list[str]:
    from captum_ext.evaluation import METRICS

    return [*METRICS]


def _metrics(word: str) -> list[str]:
    from captum_ext.evaluation import METRICS

    lines = []
    for name, metric in METRICS.items():
        if word.lower() in name:
            better = "higher" if metric.higher_is_better else "lower"
            boxes = ", needs boxes" if metric.needs_boxes else ""
            summary = f"{metric.summary} ({better} is better{boxes})"
            if word == name:
                return _details(name, summary, metric.options(), metric.function, {})
            lines += _entry(name, summary, metric.options())
    if word.lower() in "quantus:":
        lines.append("quantus:CLASS: a metric of Quantus (extra quantus)")
    if not word:
        lines.append("your own: FILE.py:NAME:better=higher or MODULE:NAME:better=lower")
    return lines


def _model_names() -> list[str]:
    from captum_ext.zoo.loading import BUILT_IN

    with suppress(MissingExtraError):
        return [*BUILT_IN, *_torchvision_names(), *_timm_names()]
    return [*BUILT_IN, *_torchvision_names()]


def _models(word: str) -> list[str]:
    from captum_ext.zoo.loading import BUILT_IN

    word = word.lower()
    lines = _names("built-in:", (n for n in BUILT_IN if word in n))
    lines += _names("torchvision:", (n for n in _torchvision_names() if word in n))
    lines += _timm(word)
    if not word:
        lines += [
            "hf:NAME, hf:FOLDER: an image classifier of Hugging Face (extra hf)",
            "onnx:FILE: a black box with ImageNet's preprocessing (extra onnx)",
            "FILE.py:FUNCTION, MODULE:FUNCTION: your own",
        ]
    return lines


def _torchvision_names() -> list[str]:
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def _timm_names() -> list[str]:
    with extra("timm"):
        from timm import get_pretrained_cfg, list_models
    return [
        f"timm:{name}"
        for name in list_models(pretrained=True)
        if (config := get_pretrained_cfg(name)) and config.num_classes
    ]


def _timm(word: str) -> list[str]:
    """Classifiers of timm, or how many there are: more than a thousand."""
    try:
        names = _timm_names()
    except MissingExtraError as error:
        return [] if word else [f"timm:NAME: {error}"]
    if word:
        return _names("timm:", (name for name in names if word in name.lower()))
    return [f"timm:NAME: {len(names)} classifiers; captum-ext models WORD lists some"]
