"""The built-in classifier of road-sign scenes: architecture and training."""

from captum_ext.zoo.signs_classifier.architecture import (
    SIGNS_MEAN,
    SIGNS_STD,
    WEIGHTS_FILE,
    SignsClassifier,
)
from captum_ext.zoo.signs_classifier.recipe import train_signs_classifier

__all__ = [
    "SIGNS_MEAN",
    "SIGNS_STD",
    "SignsClassifier",
    "WEIGHTS_FILE",
    "train_signs_classifier",
]
