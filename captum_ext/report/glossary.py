"""Titles, descriptions and sources of the methods and metrics of a run."""

import inspect
from typing import Any, Literal, NamedTuple

from captum_ext.evaluation.metric_specs import find_metric
from captum_ext.evaluation.named_metrics import METRICS, Metric
from captum_ext.evaluation.statistics import Better
from captum_ext.methods.attribution_classes import captum_methods
from captum_ext.methods.specs import COMPARED

__all__ = ["MetricEntry", "MethodEntry", "describe_metrics", "describe_methods"]


class MetricEntry(NamedTuple):
    """A metric of a run.

    Attributes:
        name (str): Name in the table.
        title (str): Title in tables.
        better (str): Whether "higher" or "lower" values are better.
        summary (str): What it measures, in a few words.
        options (str): Arguments other than the defaults.
        source (str): Publication.
    """

    name: str
    title: str
    better: Better
    summary: str
    options: str
    source: str

    @property
    def arrow(self) -> str:
        """Arrow in the direction of better values."""
        return "↑" if self.better == "higher" else "↓"

    @property
    def first(self) -> Literal["ascending", "descending"]:
        """Sort order that puts the best value first."""
        return "descending" if self.better == "higher" else "ascending"


class MethodEntry(NamedTuple):
    """A method of a run.

    Attributes:
        name (str): Name in the table.
        title (str): Title in tables.
        summary (str): What its maps show, in a few words.
        options (str): Arguments other than the defaults.
        source (str): Publication.
        signed (bool): Whether its maps have the colors of signed maps.
    """

    name: str
    title: str
    summary: str
    options: str
    source: str
    signed: bool


def describe_metrics(settings: dict[str, Any]) -> list[MetricEntry]:
    """Describe the metrics of a run.

    Args:
        settings (dict): Settings of the run.

    Returns:
        *list[MetricEntry]*: One entry per metric, in the order of the settings.

    Raises:
        ValueError: If a metric is unknown, and with it the direction of better values.

    Examples::

        >>> settings = {"metrics": {"deletion": {"use": "deletion", "n_steps": 50}}}
        >>> [metric] = describe_metrics(settings)
        >>> metric.title, metric.arrow, metric.options
        ('Deletion', '↓', 'n_steps=50')
    """
    described = []
    for name, options in settings["metrics"].items():
        use = options["use"]
        if use not in METRICS and options.get("better") in ("higher", "lower"):
            # The user's own, whose file may not be there any more.
            text = _options_text(options)
            better: Better = options["better"]
            described.append(MetricEntry(name, name, better, f"from {use}", text, ""))
            continue
        metric = _find_metric(use)
        described.append(
            MetricEntry(
                name,
                _title(name, use.removeprefix("quantus:"), metric.title),
                "higher" if metric.higher_is_better else "lower",
                metric.summary,
                _options_text(options),
                _source(metric.function),
            )
        )
    return described


def _find_metric(use: str) -> Metric:
    """A metric of this package or of Quantus, whose direction no setting says."""
    if use.startswith("quantus:"):
        return find_metric(use)
    if use not in METRICS:
        raise ValueError(
            f"results must be of metrics among {', '.join(METRICS)}, got {use!r}."
        )
    return METRICS[use]


def describe_methods(settings: dict[str, Any]) -> list[MethodEntry]:
    """Describe the methods of a run.

    Args:
        settings (dict): Settings of the run.

    Returns:
        *list[MethodEntry]*: One entry per method, even an unknown one, in the order of
        the settings.

    Examples::

        >>> settings = {"methods": {"quick": {"use": "rise", "n_masks": 100}}}
        >>> [method] = describe_methods(settings)
        >>> method.title, method.options
        ('RISE, quick', 'n_masks=100')
    """
    described = []
    for name, options in settings["methods"].items():
        use = options["use"]
        method = COMPARED.get(use) or captum_methods().get(use)
        described.append(
            MethodEntry(
                name,
                _title(name, use, method.title) if method else name,
                method.summary if method else f"from {use}",
                _options_text(options),
                _source(method.attribution) if method else "",
                method.signed if method else True,
            )
        )
    return described


def _title(name: str, use: str, title: str) -> str:
    """Title of the registry, followed by a name that differs from the registry's."""
    return title if name == use else f"{title}, {name}"


def _options_text(options: dict[str, Any]) -> str:
    return ", ".join(
        f"{name}={_value_text(value)}"
        for name, value in options.items()
        if name != "use"
    )


def _value_text(value: Any) -> str:
    """Text of a value, or of a method with its arguments."""
    if isinstance(value, dict):
        return f"{value['use']}({_options_text(value)})"
    return "none" if value is None else str(value)


def _source(value: object) -> str:
    """The publication that a docstring names."""
    for paragraph in (inspect.getdoc(value) or "").split("\n\n"):
        if paragraph.startswith("Source: "):
            return " ".join(paragraph.removeprefix("Source: ").split())
    return ""
