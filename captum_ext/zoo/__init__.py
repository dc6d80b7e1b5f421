"""What is explained: models by name, and the small embedded default.

The default is a world of road-sign scenes whose right explanation is known
(:func:`sign_scene`, :func:`sign_video`) and a classifier of them that comes with the
package (``load("signs")``), with a masking network for it (:func:`load_signs_masks`).
"""

from captum_ext.zoo.models import ZooModel, find_class, load
from captum_ext.zoo.preprocessing import Preprocessing
from captum_ext.zoo.signs import (
    SIGN_CLASSES,
    SignDataset,
    SignObject,
    SignScene,
    SignVideo,
    sign_scene,
    sign_video,
)
from captum_ext.zoo.signs_classifier import SignsClassifier, train_signs_classifier
from captum_ext.zoo.signs_masks import load_signs_masks

__all__ = [
    "find_class",
    "load",
    "load_signs_masks",
    "Preprocessing",
    "SIGN_CLASSES",
    "sign_scene",
    "sign_video",
    "SignDataset",
    "SignObject",
    "SignsClassifier",
    "SignScene",
    "SignVideo",
    "train_signs_classifier",
    "ZooModel",
]
