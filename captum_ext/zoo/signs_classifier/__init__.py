"""The embedded classifier of road-sign scenes: network, training and its command."""

from captum_ext.zoo.signs_classifier.network import (
    SIGNS_MEAN,
    SIGNS_STD,
    WEIGHTS_FILE,
    SignsClassifier,
)
from captum_ext.zoo.signs_classifier.training import train_signs_classifier

__all__ = [
    "SIGNS_MEAN",
    "SIGNS_STD",
    "SignsClassifier",
    "WEIGHTS_FILE",
    "train_signs_classifier",
]
