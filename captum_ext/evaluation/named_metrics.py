"""Registry of metrics by their names on the command line."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from captum_ext.metrics import (
    adversarial_sanity,
    average_drop,
    deletion,
    f_measure,
    increase_in_confidence,
    insertion,
    localization_error,
    mu_fidelity,
    named_baseline,
    negative_map_density,
    pointing_game,
    positive_map_density,
    relevance_mass,
    relevance_rank,
    road_least_relevant,
    road_most_relevant,
    saliency_metric,
    sparseness,
)
from captum_ext.subject import Subject

__all__ = ["METRICS", "Metric", "MetricResult"]

# Arguments that the evaluation sets itself.
_SET_HERE = {"boxes", "masks", "normalization", "return_curve"}


class MetricResult(NamedTuple):
    """The value of a metric for one map, and its curve if it has one.

    Attributes:
        value (float): Value of the metric.
        curve (list of float, optional): Scores at equally spaced shares of the pixels,
            from none to all. Default: None
    """

    value: float
    curve: list[float] | None = None


class Metric(NamedTuple):
    """A metric in the registry.

    Args:
        title (str): Title in tables.
        summary (str): What it measures, in a few words.
        function (Callable): Function of :mod:`captum_ext.metrics`.
        higher_is_better (bool): Whether higher values are better.
        needs_boxes (bool, optional): Whether it compares the map with boxes of the
            target. Default: False
        has_curve (bool, optional): Whether its value is the area under a curve.
            Default: False
        takes_baselines (bool, optional): Whether it takes ``baselines``, the values of
            hidden pixels. Default: False
        undefined (str, optional): When its value is NaN. Default: ""
    """

    title: str
    summary: str
    function: Callable[..., Tensor | tuple[Tensor, Tensor]]
    higher_is_better: bool
    needs_boxes: bool = False
    has_curve: bool = False
    takes_baselines: bool = False
    undefined: str = ""

    def options(self) -> frozenset[str]:
        """Names of the arguments that :meth:`evaluate` passes to the function."""
        baselines = {"baselines"} if self.takes_baselines else set()
        return frozenset((self._keywords() | baselines) - _SET_HERE)

    def _keywords(self) -> set[str]:
        parameters = inspect.signature(inspect.unwrap(self.function)).parameters
        return {n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}

    def evaluate(
        self,
        subject: Subject,
        maps: Tensor,
        boxes: Tensor | None = None,
        **options: object,
    ) -> MetricResult:
        """Evaluate a map by the probability of the target.

        Args:
            subject (Subject): Model, image and target that the map explains.
            maps (Tensor): Map (1, any, H, W).
            boxes (Tensor, optional): Boxes (N, 4) of the target, in pixels, for a
                metric that needs them. Default: None
            **options: Other arguments of the function, see :meth:`options`. A name of
                ``baselines`` is that of
                :func:`~captum_ext.metrics.named_baseline`, for the normalization of
                the subject's classifier.

        Returns:
            *MetricResult*: ``(value, curve)``.
        """
        normalization = (subject.classifier.mean, subject.classifier.std)
        baselines = options.get("baselines")
        if isinstance(baselines, str):
            options["baselines"] = named_baseline(
                baselines, subject.inputs, normalization
            )
        if "normalization" in self._keywords():
            options["normalization"] = normalization
        if self.needs_boxes:
            options["boxes"] = [boxes]
        if self.has_curve:
            options["return_curve"] = True
        result = self.function(
            subject.probabilities,
            subject.inputs,
            maps,
            target=subject.target,
            **options,
        )
        if isinstance(result, tuple):
            value, curve = result
            return MetricResult(float(value), curve[0].tolist())
        return MetricResult(float(result))


METRICS = {
    "insertion": Metric(
        "Insertion",
        "how fast the score rises as the highest pixels are inserted",
        insertion,
        higher_is_better=True,
        has_curve=True,
        takes_baselines=True,
    ),
    "deletion": Metric(
        "Deletion",
        "how fast the score falls as the highest pixels are deleted",
        deletion,
        higher_is_better=False,
        has_curve=True,
        takes_baselines=True,
    ),
    "f-measure": Metric(
        "F-measure",
        "how well the highest pixels cover the object and only the object",
        f_measure,
        higher_is_better=True,
        needs_boxes=True,
    ),
    "pointing-game": Metric(
        "Pointing game",
        "whether the highest pixel lies on the object",
        pointing_game,
        higher_is_better=True,
        needs_boxes=True,
    ),
    "localization-error": Metric(
        "Localization error",
        "whether the box around the map misses the object",
        localization_error,
        higher_is_better=False,
        needs_boxes=True,
    ),
    "saliency-metric": Metric(
        "Saliency metric",
        "how small a crop is still recognized",
        saliency_metric,
        higher_is_better=False,
    ),
    "positive-map-density": Metric(
        "Positive map density",
        "how much probability each unit of the map keeps",
        positive_map_density,
        higher_is_better=True,
        takes_baselines=True,
    ),
    "negative-map-density": Metric(
        "Negative map density",
        "how much probability each unit of the rest keeps",
        negative_map_density,
        higher_is_better=False,
        takes_baselines=True,
    ),
    "adversarial-sanity": Metric(
        "Adversarial sanity",
        "how slowly cleaning the highest pixels undoes an attack",
        adversarial_sanity,
        higher_is_better=False,
        undefined="the attack does not change the prediction",
    ),
    "road-most-relevant": Metric(
        "ROAD, most relevant",
        "what is left of the score without the highest pixels, imputed",
        road_most_relevant,
        higher_is_better=False,
    ),
    "road-least-relevant": Metric(
        "ROAD, least relevant",
        "what is left of the score without the lowest pixels, imputed",
        road_least_relevant,
        higher_is_better=True,
    ),
    "mu-fidelity": Metric(
        "Mu-fidelity",
        "how well sums of the map predict drops of the score",
        mu_fidelity,
        higher_is_better=True,
        takes_baselines=True,
        undefined="the map or the score is constant",
    ),
    "average-drop": Metric(
        "Average drop",
        "which fraction of the probability is lost if only the map is kept",
        average_drop,
        higher_is_better=False,
        takes_baselines=True,
        undefined="the map has no positive value",
    ),
    "increase-in-confidence": Metric(
        "Increase in confidence",
        "whether the probability rises if only the map is kept",
        increase_in_confidence,
        higher_is_better=True,
        takes_baselines=True,
        undefined="the map has no positive value",
    ),
    "relevance-mass": Metric(
        "Relevance mass",
        "which share of the map lies on the object",
        relevance_mass,
        higher_is_better=True,
        needs_boxes=True,
        undefined="the map has no positive value",
    ),
    "relevance-rank": Metric(
        "Relevance rank",
        "which share of the highest pixels lies on the object",
        relevance_rank,
        higher_is_better=True,
        needs_boxes=True,
    ),
    "sparseness": Metric(
        "Sparseness",
        "how few pixels hold most of the map",
        sparseness,
        higher_is_better=True,
        undefined="the map is zero",
    ),
}
