"""What the names in the table of a run stand for, as readers of it know them."""

import inspect
from typing import Any, Literal, NamedTuple

from captum_ext.evaluation.named_metrics import METRICS
from captum_ext.evaluation.specs import COMPARED
from captum_ext.evaluation.statistics import Better

__all__ = ["MetricEntry", "MethodEntry", "describe_metrics", "describe_methods"]


class MetricEntry(NamedTuple):
    """A metric of a run.

    Attributes:
        name (str): Name in the table.
        title (str): As it stands above a column.
        better (str): Whether "higher" or "lower" values are better.
        summary (str): What it asks, in a few words.
        options (str): Its arguments, where they are not the usual ones.
        source (str): Where it was published.
    """

    name: str
    title: str
    better: Better
    summary: str
    options: str
    source: str

    @property
    def arrow(self) -> str:
        """Which way is good."""
        return "↑" if self.better == "higher" else "↓"

    @property
    def first(self) -> Literal["ascending", "descending"]:
        """The order that begins with the best value."""
        return "descending" if self.better == "higher" else "ascending"


class MethodEntry(NamedTuple):
    """A method of a run.

    Attributes:
        name (str): Name in the table.
        title (str): As it stands beside a row.
        summary (str): What its maps show, in a few words.
        options (str): Its arguments, where they are not the usual ones.
        source (str): Where it was published.
    """

    name: str
    title: str
    summary: str
    options: str
    source: str


def describe_metrics(settings: dict[str, Any]) -> list[MetricEntry]:
    """The metrics of a run, in its order.

    Args:
        settings (dict): Of the run.

    Returns:
        *list[MetricEntry]*: One for each metric.

    Raises:
        ValueError: If one is unknown, for nobody can say what is good by it.

    Examples::

        >>> settings = {"metrics": {"deletion": {"use": "deletion", "n_steps": 50}}}
        >>> [metric] = describe_metrics(settings)
        >>> metric.title, metric.arrow, metric.options
        ('Deletion', '↓', 'n_steps=50')
    """
    described = []
    for name, options in settings["metrics"].items():
        if options["use"] not in METRICS:
            raise ValueError(
                f"results must be of metrics among {', '.join(METRICS)}, got "
                f"{options['use']!r}."
            )
        metric = METRICS[options["use"]]
        described.append(
            MetricEntry(
                name,
                _title(name, options["use"], metric.title),
                "higher" if metric.higher_is_better else "lower",
                metric.summary,
                _listed(options),
                _source(metric.function),
            )
        )
    return described


def describe_methods(settings: dict[str, Any]) -> list[MethodEntry]:
    """The methods of a run, in its order.

    Args:
        settings (dict): Of the run.

    Returns:
        *list[MethodEntry]*: One for each method, also an unknown one.

    Examples::

        >>> settings = {"methods": {"quick": {"use": "rise", "n_masks": 100}}}
        >>> [method] = describe_methods(settings)
        >>> method.title, method.options
        ('RISE, quick', 'n_masks=100')
    """
    described = []
    for name, options in settings["methods"].items():
        method = COMPARED.get(options["use"])
        described.append(
            MethodEntry(
                name,
                _title(name, options["use"], method.title if method else name),
                method.summary if method else "",
                _listed(options),
                _source(method.attribution) if method else "",
            )
        )
    return described


def _title(name: str, use: str, title: str) -> str:
    """The title of what is used, and the name that it was given, if any."""
    return title if name == use else f"{title}, {name}"


def _listed(options: dict[str, Any]) -> str:
    return ", ".join(
        f"{name}={_written(value)}" for name, value in options.items() if name != "use"
    )


def _written(value: Any) -> str:
    """A value, or a method with its arguments."""
    if isinstance(value, dict):
        return f"{value['use']}({_listed(value)})"
    return "none" if value is None else str(value)


def _source(value: object) -> str:
    """The paragraph of a docstring that says where something was published."""
    for paragraph in (inspect.getdoc(value) or "").split("\n\n"):
        if paragraph.startswith("Source: "):
            return " ".join(paragraph.removeprefix("Source: ").split())
    return ""
