"""The masking model: a map in one forward pass of a network trained for it."""

import torch
from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor

from captum_ext._captum import TargetType, format_output
from captum_ext._validation import check_classes, check_image
from captum_ext.masking import MaskingNetwork
from captum_ext.masking.frozen import frozen

__all__ = ["MaskingModel"]


class MaskingModel(Attribution):
    r"""The mask that a trained network draws for a class.

    The network saw the classifier when it was trained
    (:func:`~captum_ext.masking.train_masking_network`); now neither the classifier nor
    its gradients are needed, and maps come at video rate. A map says which part of the
    image is enough for the class, and missed when it is gone: 1 belongs to it, 0 does
    not. It is small everywhere for a class that is not in the image.

    Source: P. Dabkowski, Y. Gal, Real Time Image Saliency for Black Box Classifiers,
    NeurIPS 2017.

    Args:
        network (MaskingNetwork): Trained, on the device of the inputs.

    Examples::

        >>> from captum_ext.masking import MaskingNetwork
        >>> masking_model = MaskingModel(MaskingNetwork(n_classes=10, width=8))
        >>> x = torch.rand(2, 3, 32, 32)
        >>> attribution = masking_model.attribute(x, target=[3, 7])
        >>> attribution.shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, network: MaskingNetwork) -> None:
        if not isinstance(network, MaskingNetwork):
            raise TypeError(
                f"network must be a MaskingNetwork, got {type(network).__name__}."
            )
        super().__init__(network)

    def get_name(self) -> str:
        """Name of the method as its paper writes it."""
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
            inputs (Tensor or tuple[Tensor]): Images (B, 3, H, W) to explain,
                normalized as the classifier needs them: one tensor, or a tuple of one.
            target (int, tuple, Tensor, or list): Class to explain: an int for all
                examples, a list or 1-D tensor of B ints, or tuples of one int.

        Returns:
            *Tensor* or *tuple[Tensor]* of **attributions**:
            - **attributions** (*Tensor* or *tuple[Tensor]*):
              The mask in [0, 1], in the shape, dtype and on the device of ``inputs``,
              equal for all channels of a pixel.

        Raises:
            ValueError: If ``target`` is no class of the network, or ``inputs`` are no
                images with three channels.
            TypeError: If an argument is of the wrong type.
        """
        network: MaskingNetwork = self.forward_func
        images = check_image(inputs)
        if images.shape[1] != 3:
            raise ValueError(
                f"inputs must be images with 3 channels, got shape "
                f"{tuple(images.shape)}."
            )
        classes = check_classes(target, len(images), network.n_classes)
        weights = next(network.parameters())
        x = images.to(weights.dtype, memory_format=torch.channels_last)
        # In training mode a map would depend on its batch, and leave traces.
        with frozen(network):
            masks = network(x, classes.to(images.device, torch.long))
        maps = masks.to(images.dtype).expand_as(images).contiguous()
        return format_output(isinstance(inputs, tuple), (maps,))
