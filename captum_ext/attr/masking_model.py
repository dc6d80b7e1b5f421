"""Masking model: attributions in one forward pass of a trained network."""

import torch
from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import TargetType, format_output
from captum_ext._validation import check_image, check_target
from captum_ext.masking import MaskingNetwork
from captum_ext.masking.eval_mode import eval_mode

__all__ = ["MaskingModel"]


class MaskingModel(Attribution):
    r"""Mask of a class, computed by a trained masking network.

    The network was trained for the classifier
    (:func:`~captum_ext.masking.train_masking_network`); explaining an image needs
    neither the classifier nor its gradients and runs at video rate. The mask is 1 for
    the part of the image that is sufficient and necessary for the class, and 0
    elsewhere. It is small everywhere for a class that is not in the image.

    Source: P. Dabkowski, Y. Gal, Real Time Image Saliency for Black Box Classifiers,
    NeurIPS 2017.

    Args:
        network (MaskingNetwork): Trained network, on the device of the inputs, or what
            ``torch.compile`` returns for one.

    Examples::

        >>> from captum_ext.masking import MaskingNetwork
        >>> masking_model = MaskingModel(MaskingNetwork(n_classes=10, width=8))
        >>> x = torch.rand(2, 3, 32, 32)
        >>> attribution = masking_model.attribute(x, target=[3, 7])
        >>> attribution.shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, network: MaskingNetwork) -> None:
        # torch.compile returns a module around the network.
        if not isinstance(getattr(network, "_orig_mod", network), MaskingNetwork):
            raise TypeError(
                f"network must be a MaskingNetwork, got {type(network).__name__}."
            )
        super().__init__(network)

    def get_name(self) -> str:
        """Name of the method in its paper."""
        return "Masking model"

    @log_usage()
    @torch.no_grad()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = None,
    ) -> Tensor | tuple[Tensor, ...]:
        r"""
        Args:
            inputs (Tensor or tuple[Tensor]): Images (B, C, H, W) to explain,
                normalized as for the classifier: one tensor, or a tuple of one.
            target (int, tuple, Tensor, or list): Class to explain: an int for all
                examples, a list or 1-D tensor of B ints, or tuples of one int. Negative
                ones count from the last class.

        Returns:
            *Tensor* or *tuple[Tensor]* of **attributions**:
            - **attributions** (*Tensor* or *tuple[Tensor]*):
              The mask in [0, 1], in the shape, dtype and on the device of ``inputs``,
              equal for all channels of a pixel.

        Raises:
            ValueError: If ``target`` is not a class of the network, or ``inputs`` are
                not images with the network's channels.
            TypeError: If an argument is of the wrong type.
        """
        network: MaskingNetwork = self.forward_func
        images = check_image(inputs)
        if images.shape[1] != network.n_channels:
            raise ValueError(
                f"inputs must be images with {network.n_channels} channels, got shape "
                f"{tuple(images.shape)}."
            )
        classes = _checked_classes(target, len(images), network.n_classes)
        weights = next(network.parameters())
        x = images.to(weights.dtype, memory_format=torch.channels_last)
        # In training mode masks would depend on the batch and update the batch norms.
        with eval_mode(network):
            masks = network(x, classes.to(images.device, torch.long))
        maps = masks.to(images.dtype).expand_as(images).contiguous()
        return format_output(isinstance(inputs, tuple), (maps,))


def _checked_classes(target: TargetType, n_examples: int, n_classes: int) -> Tensor:
    """Class of each example, integers (B,)."""
    target = check_target(target, n_examples)
    entries = target.tolist() if isinstance(target, Tensor) else target
    entries = entries if isinstance(entries, list) else [entries]
    classes = [e[0] if isinstance(e, tuple) and len(e) == 1 else e for e in entries]
    for entry in classes:
        if not isinstance(entry, int) or not -n_classes <= entry < n_classes:
            raise ValueError(
                f"target must be a class from 0 to {n_classes - 1} for each example, "
                f"got {entry!r}."
            )
    # Negative numbers count from the last class, as in Captum.
    return (torch.tensor(classes) % n_classes).expand(n_examples)
