"""Attributions by the names that the command line knows them by."""

from typing import Callable, NamedTuple

from torch import Tensor

from captum_ext.attr import MCRISE, PNRISE, RISE
from captum_ext.masks import Palette

__all__ = ["METHODS", "Method", "Subject"]


class Subject(NamedTuple):
    """What is explained, and the settings that all methods share.

    Args:
        forward_func (Callable): Scores (B, classes) of inputs (B, C, H, W).
        inputs (Tensor): The picture as the model takes it, (1, C, H, W).
        target (int): The class to explain.
        palette (Palette): Colours for colour-wise methods.
        n_masks (int or None): Number of masks, None for the method's default.
        seed (int): Seed of the masks.
        show_progress (bool): Whether a progress bar is shown.
    """

    forward_func: Callable[..., Tensor]
    inputs: Tensor
    target: int
    palette: Palette
    n_masks: int | None = None
    seed: int = 0
    show_progress: bool = False


class Method(NamedTuple):
    """An attribution by name.

    Args:
        title (str): As it stands above a map.
        summary (str): What it does, in a few words.
        attribute (Callable): Makes the map (1, ..., H, W) of a subject.
        colorwise (bool): Whether it returns one map a colour of the palette.
        relief (bool): Whether only differences between pixels have a meaning, so that
            a figure starts at the smallest value.
    """

    title: str
    summary: str
    attribute: Callable[[Subject], Tensor]
    colorwise: bool = False
    relief: bool = False


def _random_masks(
    method: type[RISE] | type[MCRISE],
) -> Callable[[Subject], Tensor]:
    def attribute(subject: Subject) -> Tensor:
        options: dict[str, object] = {
            "target": subject.target,
            "seed": subject.seed,
            "show_progress": subject.show_progress,
        }
        if subject.n_masks is not None:
            options["n_masks"] = subject.n_masks
        if method is MCRISE:
            options["colors"] = subject.palette
        explainer = method(subject.forward_func)
        return explainer.attribute(subject.inputs, **options)

    return attribute


METHODS = {
    "pn-rise": Method(
        "PN-RISE",
        "what each part adds to the score, or takes away",
        _random_masks(PNRISE),
    ),
    "rise": Method(
        "RISE",
        "how high the score is while a part is kept",
        _random_masks(RISE),
        relief=True,
    ),
    "mc-rise": Method(
        "MC-RISE",
        "what painting each part in a colour does to the score",
        _random_masks(MCRISE),
        colorwise=True,
    ),
}
