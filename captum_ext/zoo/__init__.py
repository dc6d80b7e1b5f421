"""Classifiers by name, and a small built-in one with scenes to explain.

The built-in classifier (``load("signs")``) recognizes drawn road-sign scenes whose
correct explanation is known (:func:`sign_scene`, :func:`sign_video`). A masking network
for it comes with the package too (:func:`load_signs_masks`).
"""

from captum_ext.zoo.black_box import BlackBox, BlackBoxError
from captum_ext.zoo.class_names import find_class
from captum_ext.zoo.frame_average import FrameAverage
from captum_ext.zoo.loading import load
from captum_ext.zoo.models import ZooModel
from captum_ext.zoo.preprocessing import BoxPreprocessing, Preprocessing, upright_rgb
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
    "BlackBox",
    "BlackBoxError",
    "BoxPreprocessing",
    "FrameAverage",
    "Preprocessing",
    "SIGN_CLASSES",
    "SignDataset",
    "SignObject",
    "SignScene",
    "SignVideo",
    "SignsClassifier",
    "ZooModel",
    "find_class",
    "load",
    "load_signs_masks",
    "sign_scene",
    "sign_video",
    "train_signs_classifier",
    "upright_rgb",
]
