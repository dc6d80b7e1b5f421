"""Metrics by the names that the command line knows them by."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from captum_ext.metrics import (
    adversarial_sanity,
    deletion,
    f_measure,
    insertion,
    localization_error,
    negative_map_density,
    pointing_game,
    positive_map_density,
    saliency_metric,
)
from captum_ext.subject import Subject

__all__ = ["METRICS", "Metric", "Measured"]

# What the evaluation gives by itself.
_GIVEN = {"boxes", "masks", "return_curve"}


class Measured(NamedTuple):
    """The value of a metric, and its curve if it follows one.

    Attributes:
        value (float): Of the one map.
        curve (list of float, optional): Scores over equal shares of the pixels, from
            none to all.
    """

    value: float
    curve: list[float] | None = None


class Metric(NamedTuple):
    """A metric by name.

    Args:
        title (str): As it stands above a column.
        summary (str): What it asks, in a few words.
        function (Callable): The function of :mod:`captum_ext.metrics`.
        higher_is_better (bool): Which way it counts.
        needs_boxes (bool): Whether it compares the map with boxes of the class.
        has_curve (bool): Whether its value is the area under a curve.
        takes_baselines (bool): Whether ``baselines`` says what hidden pixels are
            replaced by.
    """

    title: str
    summary: str
    function: Callable[..., Tensor | tuple[Tensor, Tensor]]
    higher_is_better: bool
    needs_boxes: bool = False
    has_curve: bool = False
    takes_baselines: bool = False

    def options(self) -> frozenset[str]:
        """Names of the arguments that :meth:`metric` passes on."""
        parameters = inspect.signature(inspect.unwrap(self.function)).parameters
        own = {n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
        baselines = {"baselines"} if self.takes_baselines else set()
        return frozenset((own | baselines) - _GIVEN)

    def metric(
        self,
        subject: Subject,
        maps: Tensor,
        boxes: Tensor | None = None,
        **options: object,
    ) -> Measured:
        """How good a map of a subject is, by the probability of its target.

        Args:
            subject (Subject): What is explained.
            maps (Tensor): Its map, (1, any, H, W).
            boxes (Tensor, optional): Of the target, (N, 4), if they are needed.
                Default: None
            **options: Further arguments of the function, of :meth:`options`.

        Returns:
            *Measured*: ``(value, curve)``.
        """
        if self.needs_boxes:
            options["boxes"] = [boxes]
        if self.has_curve:
            options["return_curve"] = True
        measured = self.function(
            subject.probabilities,
            subject.inputs,
            maps,
            target=subject.target,
            **options,
        )
        if isinstance(measured, tuple):
            value, curve = measured
            return Measured(float(value), curve[0].tolist())
        return Measured(float(measured))


METRICS = {
    "insertion": Metric(
        "Insertion",
        "how fast the score rises as the highest pixels are shown",
        insertion,
        higher_is_better=True,
        has_curve=True,
        takes_baselines=True,
    ),
    "deletion": Metric(
        "Deletion",
        "how fast the score falls as the highest pixels are hidden",
        deletion,
        higher_is_better=False,
        has_curve=True,
        takes_baselines=True,
    ),
    "f-measure": Metric(
        "F-measure",
        "how well the highest pixels cover the object and nothing else",
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
        "whether the box round the map misses the object",
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
    ),
}
