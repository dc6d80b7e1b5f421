"""CAMERAS: activations and gradients fused over sizes of the image."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from captum.attr import LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext._captum import TargetType, format_output
from captum_ext._scores import is_out_of_memory
from captum_ext._validation import (
    check_choice,
    check_image,
    check_integer,
    check_layer_maps,
    check_same_outputs,
    check_sizes,
    check_target,
)
from captum_ext.attr.layers import (
    LayerEvaluation,
    ReshapeTransform,
    evaluate_layer,
    in_input_shape,
)

__all__ = ["LayerCAMERAS", "fused_map", "resolutions", "unit_range"]

# Floats in a piece of the fusion: small enough to stay in a processor's cache.
_PIECE = 2**21


def resolutions(
    size: Sequence[int], max_size: Sequence[int], n_steps: int
) -> list[tuple[int, int]]:
    r"""Evenly spaced sizes :math:`\zeta_0 \ldots \zeta_m`, without repetitions.

    Args:
        size (sequence of int): Height and width of the image, zeta_0.
        max_size (sequence of int): The largest height and width, zeta_m. An axis that
            is as long already keeps its length.
        n_steps (int): Number of sizes N, at least 1.

    Returns:
        *list[tuple[int, int]]*: Heights and widths, the image's own first.

    Examples::

        >>> resolutions((224, 224), (1000, 1000), 5)
        [(224, 224), (418, 418), (612, 612), (806, 806), (1000, 1000)]
    """
    axes = [
        torch.linspace(n, max(n, most), n_steps).round().int().tolist()
        for n, most in zip(size, max_size)
    ]
    return list(dict.fromkeys(zip(*axes)))


def fused_map(
    activations: Sequence[Tensor],
    gradients: Sequence[Tensor],
    size: Sequence[int],
    mode: str = "bilinear",
) -> Tensor:
    r"""Product of mean activations and mean gradients, summed over channels.

    .. math::
        \sum_k \bar W_k \odot \bar A_k, \quad
        \bar A_k = \frac{1}{T} \sum_t \mathrm{up}(A_{t,k}), \quad
        \bar W_k = \frac{1}{T} \sum_t \mathrm{up}(W_{t,k}).

    Interpolation is linear in the maps and acts on rows and columns one after the
    other. So the rows are interpolated first, a few at a time, and where that is less
    work channels are summed before the columns are: the full-size product of all
    channels never exists.

    Args:
        activations (sequence of Tensor): A_t of one example, (C, h_t, w_t) each.
        gradients (sequence of Tensor): W_t, in the same shapes.
        size (sequence of int): Height H and width W of the map.
        mode (str, optional): Interpolation, as in ``torch.nn.functional.interpolate``.
            Default: "bilinear"

    Returns:
        *Tensor*: (H, W), float32, or float64 for float64 maps.

    Examples::

        >>> fused_map([torch.ones(8, 2, 2)], [torch.ones(8, 2, 2)], (4, 4)).mean()
        tensor(8.)
    """
    (height, width), n_channels = size, len(activations[0])
    to_height = [_interpolation(a.shape[1], height, mode, a) for a in activations]
    to_width = [_interpolation(a.shape[2], width, mode, a) for a in activations]
    columns = torch.cat(to_width, 1)
    n_columns = columns.shape[1]
    sum_first = n_columns * (n_channels + width) < 2 * width * n_channels
    step = max(1, _PIECE // (n_columns * max(n_channels, width)))

    def rows_of(maps: Sequence[Tensor], rows: slice) -> Tensor:
        """Mean over sizes but for the columns, (rows, columns of all sizes, C)."""
        parts = [
            torch.tensordot(to_row[rows], each.movedim(0, -1).to(columns.dtype), 1)
            for to_row, each in zip(to_height, maps)
        ]
        return torch.cat(parts, 1) / len(parts)

    fused = columns.new_empty(height, width)
    for start in range(0, height, step):
        rows = slice(start, start + step)
        A, W = rows_of(activations, rows), rows_of(gradients, rows)
        if sum_first:
            fused[rows] = (columns @ (A @ W.mT) * columns).sum(-1)
        else:
            fused[rows] = ((columns @ A) * (columns @ W)).sum(-1)
    return fused


def _interpolation(n: int, to: int, mode: str, like: Tensor) -> Tensor:
    """Matrix (to, n) that interpolates n values."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    one_each = torch.eye(n, dtype=dtype, device=like.device)
    return F.interpolate(one_each[None, None], (to, n), mode=mode)[0, 0]


def unit_range(maps: Tensor) -> Tensor:
    """Stretch each map so that it fills [0, 1].

    Args:
        maps (Tensor): (B, ...).

    Returns:
        *Tensor*: In the same shape; zero for a map without differences.

    Examples::

        >>> unit_range(torch.tensor([[1.0, 2.0, 5.0], [3.0, 3.0, 3.0]]))
        tensor([[0.0000, 0.2500, 1.0000],
                [0.0000, 0.0000, 0.0000]])
    """
    axes = tuple(range(1, maps.dim()))
    maps = maps - maps.amin(axes, keepdim=True)
    most = maps.amax(axes, keepdim=True)
    return torch.where(most > 0, maps / most, 0)


class LayerCAMERAS(LayerAttribution):
    r"""CAMERAS: a sharp class activation map, from several sizes of the image.

    The image is enlarged step by step. At each size the layer gives its activations
    and the gradients of the score at them; both are interpolated to the size of the
    image and averaged over the sizes, and the map is their product,

    .. math::
        \Psi = f\Big(\mathrm{ReLU}\Big(\sum_k \bar W_k \odot \bar A_k\Big)\Big),

    stretched to [0, 1] by f. A size counts only where the prediction, the largest
    output, is the one that the image has at its own size; each example is looked at
    by itself. If there is one output an example every size counts.

    Source: M. Jalwana, N. Akhtar, M. Bennamoun, A. Mian, CAMERAS: Enhanced Resolution
    And Sanity preserving Class Activation Mapping for image Saliency, CVPR 2021;
    Algorithm 1.

    Args:
        forward_func (Callable): The forward function of the model or any
            modification of it, for images of any size. It should return scores from
            before the softmax, whose gradients do not vanish where the model is sure.
        layer (nn.Module): The layer to explain at, usually the last convolutional one.
        device_ids (list[int], optional): Order of the devices of a DataParallel model
            behind ``forward_func``, needed only if ``forward_func`` is not that model
            itself. Default: None

    Examples::

        >>> features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        >>> pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> model = nn.Sequential(features, pool)
        >>> cameras = LayerCAMERAS(model, features)
        >>> cameras.attribute(torch.rand(1, 3, 32, 32), 1, max_size=(96, 96)).shape
        torch.Size([1, 1, 32, 32])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layer: nn.Module,
        device_ids: list[int] | None = None,
    ) -> None:
        super().__init__(forward_func, layer, device_ids)

    def get_name(self) -> str:
        """Name of the method as its paper writes it."""
        return "CAMERAS"

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor],
        target: TargetType = None,
        additional_forward_args: object = None,
        max_size: int | Sequence[int] = (1000, 1000),
        n_steps: int = 7,
        sizes: Sequence[int | Sequence[int]] | None = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = True,
        normalize: bool = True,
        interpolate_mode: str = "bilinear",
        grad_kwargs: dict[str, Any] | None = None,
        reshape_transform: ReshapeTransform | None = None,
        input_shaped: bool = False,
    ) -> Tensor | tuple[Tensor, ...]:
        r"""
        Args:
            inputs (Tensor): Images (B, C, H, W) to explain, or a tuple of this one
                tensor.
            target (int, tuple, Tensor, or list, optional): Output to explain, in any
                of Captum's forms: an int for all examples, a list or 1-D tensor of B
                ints, tuples for outputs of more axes. None if ``forward_func`` returns
                one number an example. Default: None
            additional_forward_args (Any, optional): Further arguments of
                ``forward_func``, the same at all sizes. Default: None
            max_size (int or tuple[int, int], optional): Height and width in pixels of
                the largest image; an int is that of the longer side, whatever the
                shape of the image. An axis that is as long already keeps its length.
                Default: (1000, 1000)
            n_steps (int, optional): Number of sizes N, evenly spaced from the
                image's own to ``max_size``. Default: 7
            sizes (sequence of int or tuple[int, int], optional): Sizes in pixels to
                use beside the image's own, in place of ``max_size`` and ``n_steps``.
                Default: None
            attribute_to_layer_input (bool, optional): Whether the maps that go into
                the layer are taken in place of those that come out. Default: False
            relu_attributions (bool, optional): Whether negative values become zero, as
                in the paper. Default: True
            normalize (bool, optional): Whether the map is stretched to [0, 1]. Values
                of different images can be compared only if it is not; they have the
                unit of the score. Default: True
            interpolate_mode (str, optional): "bilinear", as in the paper, "bicubic" or
                "nearest", for the images and the maps. Default: "bilinear"
            grad_kwargs (dict[str, Any], optional): Further arguments of
                ``torch.autograd.grad``. Default: None
            reshape_transform (Callable, optional): Brings what the layer gives into
                the shape (B, C, h, w), for layers that return tokens
                (:func:`~captum_ext.attr.maps_of_tokens`) or keep channels last
                (:func:`~captum_ext.attr.maps_of_channels_last`). Default: None
            input_shaped (bool, optional): Whether the map is repeated for the channels
                of the input, as Captum's metrics need it. Default: False

        Returns:
            *Tensor* or *tuple[Tensor]* of **attributions**:
            - **attributions** (*Tensor* or *tuple[Tensor]*):
              (B, 1, H, W) at the size of ``inputs``, in their dtype and on their
              device; (B, C, H, W) if ``input_shaped``. Zero where nothing speaks for
              the target.

        Raises:
            ValueError: If an argument is out of its range, if the model refuses a
                size, if the target does not fit the output, if the output does not
                hold one finite score an example, or if the layer takes no part in the
                forward pass or gives no maps.
            TypeError: If an argument is of the wrong type.
        """
        image = check_image(inputs)
        check_target(target, len(image))
        check_choice("interpolate_mode", interpolate_mode, _MODES)
        n_steps = check_integer("n_steps", n_steps, 1)
        size = (image.shape[2], image.shape[3])
        if sizes is None:
            (most,) = check_sizes("max_size", [max_size], size)
            used = resolutions(size, most, n_steps)
        else:
            used = list(dict.fromkeys([size, *check_sizes("sizes", sizes, size)]))

        def evaluate(size: tuple[int, int]) -> LayerEvaluation:
            resized = F.interpolate(image, size, mode=interpolate_mode)
            evaluation = evaluate_layer(
                self.forward_func,
                self.layer,
                (resized,),
                target,
                additional_forward_args,
                attribute_to_layer_input,
                reshape_transform,
                self.device_ids,
                grad_kwargs,
            )
            check_layer_maps(evaluation.activations, len(image))
            return evaluation

        found = [evaluate(size), *(_unless_refused(evaluate, s) for s in used[1:])]
        maps = _maps(found, size, interpolate_mode)
        maps = F.relu(maps) if relu_attributions else maps
        maps = unit_range(maps) if normalize else maps
        maps = maps[:, None].to(image)
        if input_shaped:
            return in_input_shape((maps,), inputs)
        return format_output(isinstance(inputs, tuple), (maps,))


_MODES = ("bilinear", "bicubic", "nearest")


def _maps(found: Sequence[LayerEvaluation], size: tuple[int, int], mode: str) -> Tensor:
    """Each example's map (B, H, W) from the sizes that keep its prediction."""
    check_same_outputs([each.output for each in found])
    n_examples = len(found[0].activations[0])
    outputs = torch.stack([each.output.reshape(n_examples, -1) for each in found])
    predictions = outputs.argmax(2)
    kept = (predictions == predictions[0]).tolist()
    maps = []
    for i in range(n_examples):
        counted = [each for each, keep in zip(found, kept) if keep[i]]
        activations = [each.activations[0][i] for each in counted]
        gradients = [each.gradients[0][i] for each in counted]
        maps.append(fused_map(activations, gradients, size, mode))
    return torch.stack(maps)


def _unless_refused(
    evaluate: Callable[[tuple[int, int]], LayerEvaluation], size: tuple[int, int]
) -> LayerEvaluation:
    """Evaluate at another size than the image's own, which the model has taken."""
    try:
        return evaluate(size)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"forward_func must take images of any size, but refused {size[0]} x "
            f"{size[1]} pixels ({reason}); name sizes that it takes by sizes or "
            f"max_size, or explain a model of one size by LayerGradCamPlusPlus."
        ) from error
