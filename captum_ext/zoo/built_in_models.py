"""Classifiers whose architecture comes with the package: signs and resnet20."""

from pathlib import Path

from captum_ext._state_dicts import load_state, read_state
from captum_ext.zoo.class_names import default_class_names
from captum_ext.zoo.construction import build
from captum_ext.zoo.models import ZooModel
from captum_ext.zoo.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from captum_ext.zoo.resnet20 import ResNet20
from captum_ext.zoo.signs import SIGN_CLASSES
from captum_ext.zoo.signs_classifier import (
    SIGNS_MEAN,
    SIGNS_STD,
    WEIGHTS_FILE,
    SignsClassifier,
)

__all__ = ["load_resnet20", "load_signs"]


def load_signs(weights: str | Path | None = None) -> ZooModel:
    """Load the classifier of drawn road signs.

    Args:
        weights (str or Path, optional): State-dict file. Default: None (the package's)

    Returns:
        *ZooModel*: Classifier of 16 signs.

    Raises:
        ValueError: If the file does not hold its weights.
    """
    weights = WEIGHTS_FILE if weights is None else weights
    model = build(SignsClassifier)
    load_state(model, read_state(weights, []), f"weights {str(weights)!r}", "signs")
    preprocess = Preprocessing.square(96, SIGNS_MEAN, SIGNS_STD)
    return ZooModel(model.eval(), preprocess, SIGN_CLASSES, SIGNS_MEAN, SIGNS_STD)


def load_resnet20(weights: str | Path | None = None) -> ZooModel:
    """Load ResNet-20, for images of 32 x 32 pixels, from a file.

    Args:
        weights (str or Path, optional): State-dict file, of any number of classes. It
            must be given. Default: None

    Returns:
        *ZooModel*: Classifier with ImageNet's normalization.

    Raises:
        ValueError: If no file is given or it does not hold weights of ResNet-20.
    """
    if weights is None:
        raise ValueError("weights must be a state-dict file for 'resnet20', got none.")
    state = read_state(weights, [])
    last = state.get("linear.weight")
    class_names = default_class_names(10 if last is None else len(last))
    model = build(ResNet20, num_classes=len(class_names))
    load_state(model, state, f"weights {str(weights)!r}", "resnet20")
    preprocess = Preprocessing.square(32, IMAGENET_MEAN, IMAGENET_STD)
    return ZooModel(model.eval(), preprocess, class_names, IMAGENET_MEAN, IMAGENET_STD)
