"""Models that your own function, in a Python file or a module, returns."""

import inspect
from pathlib import Path

from PIL import Image

from captum_ext.zoo.black_box import BlackBox
from captum_ext.zoo.class_names import default_class_names
from captum_ext.zoo.models import ZooModel
from captum_ext.zoo.preprocessing import Preprocessing
from captum_ext.zoo.python_function import find_function

__all__ = ["load_own"]

_SIDE = 224


def load_own(name: str, weights: str | Path | None) -> ZooModel:
    """Load the model that your own function returns.

    Args:
        name (str): ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``.
        weights (str or Path, optional): Argument of the function.

    Returns:
        *ZooModel*: What the function returns. A function or a :class:`BlackBox` is
        completed by preprocessing to 224 x 224 pixels in [0, 1], RGB, by names, for
        which it is called with one image, and by the activation "identity".

    Raises:
        ValueError: If there is no such function, or it returns something else.
    """
    function = find_function(name)
    try:
        inspect.signature(function).bind(weights)
    except TypeError as error:
        raise ValueError(
            f"name must be a function of one argument, weights, got {name!r} ({error})."
        ) from error
    entry = function(weights)
    if isinstance(entry, ZooModel):
        return entry._replace(model=entry.model.eval())
    if inspect.isroutine(entry):
        entry = BlackBox(entry)
    if isinstance(entry, BlackBox):
        return _completed(entry)
    raise ValueError(
        f"name must be a function that returns a ZooModel or a function of NumPy "
        f"images, got {name!r}, which returns {type(entry).__name__}."
    )


def _completed(black_box: BlackBox) -> ZooModel:
    """A black box with default preprocessing and class names."""
    preprocess = Preprocessing.square(_SIDE)
    blank = preprocess(Image.new("RGB", (_SIDE, _SIDE), "gray"))
    class_names = default_class_names(black_box(blank[None]).shape[1])
    return ZooModel(
        black_box,
        preprocess,
        class_names,
        (0.0,) * 3,
        (1.0,) * 3,
        activation="identity",
    )
