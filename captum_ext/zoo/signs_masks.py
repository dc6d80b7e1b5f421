"""The built-in masking network of the signs classifier."""

from pathlib import Path

from captum_ext.masking import MaskingNetwork

__all__ = ["load_signs_masks"]

_FILE = Path(__file__).with_name("signs_masks.pt")


def load_signs_masks() -> MaskingNetwork:
    """Load the masking network trained for ``load("signs")``.

    Returns:
        MaskingNetwork: Masking network in eval mode, on the CPU.

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
