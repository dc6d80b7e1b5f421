"""The masking network of the embedded classifier, which comes with the package."""

from pathlib import Path

from captum_ext.masking import MaskingNetwork

__all__ = ["load_signs_masks"]

_FILE = Path(__file__).with_name("signs_masks.pt")


def load_signs_masks() -> MaskingNetwork:
    """The network that draws masks for ``load("signs")``.

    Returns:
        MaskingNetwork: In eval mode, on the CPU.

    Examples::

        >>> from captum_ext.attr import MaskingModel
        >>> signs, scene = load("signs"), sign_scene(0)
        >>> inputs = signs.normalize(scene.image)[None]
        >>> maps = MaskingModel(load_signs_masks()).attribute(inputs, scene.label)
        >>> mask, sign = maps[0, 0], scene.objects[0].mask
        >>> bool(mask[sign].mean() > 3 * mask[~sign].mean())
        True
    """
    return MaskingNetwork.load(_FILE)
