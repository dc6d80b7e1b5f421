"""A classifier with all that explaining it needs: preprocessing, names, activation."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from PIL import Image
from torch import Tensor, nn

if TYPE_CHECKING:
    from captum_ext.masking import MaskingNetwork

__all__ = ["ZooModel"]


class ZooModel(NamedTuple):
    """A classifier with its preprocessing and class names.

    Attributes:
        model (nn.Module): Classifier in eval mode, from (B, C, H, W) to logits.
        preprocess (Callable): Function from a PIL image of any mode to the normalized
            tensor (C, H, W) that the model expects. Metrics that compare maps with
            boxes need a :class:`BoxPreprocessing`, such as :class:`Preprocessing`.
        class_names (tuple of str): Class names, one per logit.
        mean (tuple of float): Mean of the normalization, one number per channel, in
            units of pixels in [0, 1].
        std (tuple of float): Standard deviation of the normalization, in the same form.
        masking_network (MaskingNetwork, optional): Masking network trained for the
            model; see :meth:`with_masking_network`. Default: None
        activation (str, optional): What turns the model's outputs into probabilities:
            "softmax"; "sigmoid" for one output or independent classes; "identity" for
            outputs that are explained as they are. Default: "softmax"
    """

    model: nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    masking_network: "MaskingNetwork | None" = None
    activation: Literal["softmax", "sigmoid", "identity"] = "softmax"

    def with_masking_network(self, network: "MaskingNetwork") -> "ZooModel":
        """Return the classifier together with a masking network trained for it.

        Args:
            network (MaskingNetwork): Masking network on the classifier's device.

        Returns:
            ZooModel: Copy of this tuple with ``masking_network``.

        Raises:
            ValueError: If the network was trained for another number of classes or
                channels.

        Examples::

            >>> from captum_ext.zoo import load, load_signs_masks
            >>> signs = load("signs").with_masking_network(load_signs_masks())
            >>> signs.masking_network.n_classes
            16
        """
        if network.n_classes != len(self.class_names):
            raise ValueError(
                f"masking_network must have as many classes as the model, "
                f"{len(self.class_names)}, got {network.n_classes}."
            )
        if network.n_channels != len(self.mean):
            raise ValueError(
                f"masking_network must have as many channels as the model, "
                f"{len(self.mean)}, got {network.n_channels}."
            )
        return self._replace(masking_network=network)

    def normalize(self, image: Tensor) -> Tensor:
        """Normalize an image for the model.

        Args:
            image (Tensor): Pixels in [0, 1], channels first: an image (C, H, W), a
                video (C, T, H, W), or a color (C,).

        Returns:
            Tensor: ``(image - mean) / std``, in the same shape.

        Raises:
            ValueError: If ``image`` is not floating point or its first axis does not
                hold the channels.

        Examples::

            >>> load("signs").normalize(torch.tensor([0.5, 0.75, 1.0]))
            tensor([0., 1., 2.])
        """
        mean, std = self._channel_statistics("image", image)
        return (image - mean) / std

    def denormalize(self, inputs: Tensor) -> Tensor:
        """Undo :meth:`normalize`, for display.

        Args:
            inputs (Tensor): Normalized image, channels first: (C, ...).

        Returns:
            Tensor: Pixels clamped to [0, 1], in the same shape.

        Raises:
            ValueError: If ``inputs`` is not floating point or its first axis does not
                hold the channels.
        """
        mean, std = self._channel_statistics("inputs", inputs)
        return (inputs * std + mean).clamp(0, 1)

    def _channel_statistics(self, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, broadcastable to channels-first ``x``."""
        if not x.is_floating_point() or x.shape[:1] != (len(self.mean),):
            raise ValueError(
                f"{name} must be floating point with its {len(self.mean)} channels "
                f"first, got {x.dtype} of shape {tuple(x.shape)}."
            )
        shape = (-1, *(1,) * (x.dim() - 1))
        return x.new_tensor(self.mean).view(shape), x.new_tensor(self.std).view(shape)
