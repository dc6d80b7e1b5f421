"""The layer that layer methods explain for all images of a model."""

import numpy as np
import torch
from PIL import Image

from captum_ext.attr import MapLayer
from captum_ext.attr.map_layer import map_layer
from captum_ext.zoo import ZooModel

__all__ = ["common_layer"]


def common_layer(model: ZooModel, name: str | None = None) -> MapLayer:
    """Find the layer that layer methods explain, the same for all images.

    An image of noise, in which no layer is silent by chance, decides.

    Args:
        model (ZooModel): Classifier in eval mode, whose device is used.
        name (str, optional): Name of the layer. Default: None (the last one that has
            maps, see :func:`~captum_ext.attr.last_map_layer`)

    Returns:
        *MapLayer*: Layer.

    Raises:
        ValueError: If there is no such layer.

    Examples::

        >>> from captum_ext.zoo import load
        >>> common_layer(load("signs")).name
        'features'
    """
    device = next(model.model.parameters(), torch.empty(0)).device
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    inputs = model.preprocess(Image.fromarray(noise))[None].to(device)
    return map_layer(model.model, inputs, name)
