"""A classifier with its preprocessing, class names and activation."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image
from torch import Tensor, nn

from captum_ext._activations import Activation, probabilities
from captum_ext._outputs import output_tensor

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
        activation (str, optional): What turns logits into probabilities: "softmax" for
            classes of which one is present, "sigmoid" for independent ones
            (multi-label), "identity" for outputs that are probabilities. A single
            output, of a binary classifier, has a sigmoid. Default: "softmax"
    """

    model: nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    masking_network: "MaskingNetwork | None" = None
    activation: Activation = "softmax"

    def __repr__(self) -> str:
        n = len(self.class_names)
        extra = "" if self.masking_network is None else ", with a masking network"
        return (
            f"ZooModel({type(self.model).__name__}, {n} class{'es' * (n != 1)}, "
            f"{len(self.mean)} channels, {self.applied_activation}{extra})"
        )

    @property
    def applied_activation(self) -> Activation:
        """Activation that gives probabilities: the sigmoid of a single output.

        The softmax of one number is always 1.
        """
        alone = len(self.class_names) == 1 and self.activation == "softmax"
        return "sigmoid" if alone else self.activation

    def logits(self, output: object) -> Tensor:
        """Logits of the classes.

        Args:
            output (Tensor): Output of ``model``: logits (B, classes), an object with
                them, or (B,) for one class.

        Returns:
            Tensor: (B, classes).

        Raises:
            ValueError: If there is not one logit per class name.

        Examples::

            >>> load("signs").logits({"logits": torch.zeros(1, 16)}).shape
            torch.Size([1, 16])
        """
        try:
            logits = output_tensor(output)
        except TypeError as error:
            raise ValueError(str(error)) from error
        n_classes = len(self.class_names)
        if logits.dim() == 1 and n_classes == 1:
            logits = logits[:, None]
        if logits.shape[1:] != (n_classes,):
            raise ValueError(
                f"model must return logits (B, {n_classes}), one for each of its class "
                f"names, got shape {tuple(logits.shape)}."
            )
        return logits

    def probabilities(self, output: object) -> Tensor:
        """Probabilities of the classes, by :attr:`applied_activation`.

        Args:
            output (Tensor): Output of ``model``, as for :meth:`logits`.

        Returns:
            Tensor: (B, classes).

        Raises:
            ValueError: If there is not one logit per class name.

        Examples::

            >>> load("signs").probabilities(torch.zeros(1, 16))[0, 0]
            tensor(0.0625)
        """
        return probabilities(self.logits(output), self.applied_activation)

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
