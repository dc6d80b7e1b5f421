"""Metrics with their arguments, from text."""

from captum_ext._suggestions import known_name
from captum_ext._validation import check_choice
from captum_ext.evaluation.named_metrics import METRICS, Metric
from captum_ext.evaluation.own_code import own_metric
from captum_ext.methods.argument_types import check_types
from captum_ext.methods.specs import Spec, Specs, read_specs
from captum_ext.metrics.baselines import BASELINES

__all__ = ["find_metric", "read_metrics"]


def read_metrics(given: Specs) -> dict[str, Spec]:
    """Parse the specs of metrics.

    A name is one of :data:`METRICS`, or a function or class of your own,
    ``FILE.py:NAME:better=higher`` or ``MODULE:NAME:better=lower``; see
    :func:`~captum_ext.evaluation.own_code.own_metric`.

    Args:
        given (str, iterable of str, or Mapping): Entries as in
            :func:`~captum_ext.evaluation.read_methods`. ``baselines`` may be a
            name of :func:`~captum_ext.metrics.named_baseline`.

    Returns:
        *dict[str, Spec]*: Specs by name in the table, in the given order.

    Raises:
        ValueError: If a name is unknown or given twice, a metric does not take an
            argument, or not of its type, or one of your own lacks ``better``.

    Examples::

        >>> read_metrics({"blurred": {"use": "insertion", "baselines": "blur"}})
        {'blurred': Spec(use='insertion', options={'baselines': 'blur'})}
    """
    specs = read_specs("metrics", given, find_metric, METRICS, Metric.options)
    for name, spec in specs.items():
        baselines = spec.options.get("baselines")
        typed = {**spec.options}
        if isinstance(baselines, str):
            del typed["baselines"]  # A name, see Metric.evaluate.
            if spec.use in METRICS:
                check_choice("baselines", baselines, BASELINES)
        check_types("metrics", name, find_metric(spec.use).function, typed)
        better = spec.options.get("better")
        asked = "better" in find_metric(spec.use).options()
        if asked and better not in ("higher", "lower"):
            raise ValueError(
                f"metrics of your own must have better=higher or better=lower, got "
                f"{better!r} for {name!r}."
            )
    return specs


def find_metric(use: str) -> Metric:
    """Find a metric by its name, see :func:`read_metrics`.

    Args:
        use (str): Name of a metric.

    Returns:
        *Metric*: Metric.

    Raises:
        ValueError: If there is none of that name.
    """
    if ":" in str(use):
        return own_metric(use)
    if use not in METRICS:
        raise ValueError(
            f"metrics must be {known_name(use, METRICS, ' or your own FILE.py:NAME')}."
        )
    return METRICS[use]
