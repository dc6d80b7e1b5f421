"""Loading of classifiers by name."""

from collections.abc import Callable
from pathlib import Path

from captum_ext.zoo.built_in_models import load_resnet20, load_signs
from captum_ext.zoo.hugging_face import load_hugging_face
from captum_ext.zoo.models import ZooModel
from captum_ext.zoo.onnx_model import load_onnx
from captum_ext.zoo.own_model import load_own
from captum_ext.zoo.timm_models import load_timm
from captum_ext.zoo.torchvision_models import load_torchvision

__all__ = ["BUILT_IN", "load"]

_Weights = str | Path | None
BUILT_IN: dict[str, Callable[[_Weights], ZooModel]] = {
    "signs": load_signs,
    "resnet20": load_resnet20,
}
_BY_PREFIX: dict[str, Callable[[str, _Weights], ZooModel]] = {
    "timm": load_timm,
    "hf": load_hugging_face,
    "onnx": load_onnx,
}


def load(name: str, weights: str | Path | None = None) -> ZooModel:
    r"""Load a classifier: a built-in one, one of another library, or your own.

    Args:
        name (str): Name of the classifier:

            - ``"signs"``, which comes with the package;
            - any classification model of torchvision, such as ``"resnet50"``;
            - ``"resnet20"``, for images of 32 x 32 pixels such as CIFAR-10's, whose
              weights come from a file;
            - ``"timm:NAME"``, with the extra ``timm``;
            - ``"hf:NAME"`` or ``"hf:FOLDER"``, an image classifier of Hugging Face,
              with the extra ``hf``;
            - ``"onnx:FILE"``, a black box with torchvision's preprocessing of ImageNet
              at the size of its input, with the extra ``onnx``;
            - your own function, which is called with ``weights`` and returns a
              :class:`ZooModel`, or a function of NumPy images, see :class:`BlackBox`:
              ``"FILE.py:FUNCTION"``, or ``"MODULE:FUNCTION"`` of an importable module.
        weights (str or Path, optional): Name of torchvision's weights, such as
            ``"IMAGENET1K_V1"``, to download; or a state-dict file, optionally with
            the state dict under the key ``"state_dict"`` or of a model fine-tuned to
            other classes. Your own function may accept anything else.
            Default: None (the package's weights for ``"signs"``, torchvision's
            ``"DEFAULT"`` for its models, pretrained ones of timm and Hugging Face)

    Returns:
        ZooModel: Classifier in eval mode. Weights from a file use the preprocessing of
        the default weights, and their class names if the number of classes is the same.

    Raises:
        ValueError: If the model, the file or the weights do not exist, if the file
            does not hold a state dict that fits the model, or if your own function
            returns something else.
        OSError: If the weights cannot be downloaded.
        MissingExtraError: If the extra is not installed.

    Examples::

        >>> from captum_ext.zoo import load, sign_scene
        >>> signs, scene = load("signs"), sign_scene(0)
        >>> logits = signs.model(signs.normalize(scene.image)[None])
        >>> signs.class_names[logits.argmax()] == signs.class_names[scene.label]
        True
    """
    if name in BUILT_IN:
        return BUILT_IN[name](weights)
    prefix, colon, rest = name.partition(":")
    if not colon:
        return load_torchvision(name, weights)
    if prefix in _BY_PREFIX:
        return _BY_PREFIX[prefix](rest, weights)
    return load_own(name, weights)
