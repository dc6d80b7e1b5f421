"""CAMERAS: activations and gradients fused over several image sizes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from captum.attr import LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext._captum import TargetType, format_output
from captum_ext._scores import is_out_of_memory
from captum_ext._type_checks import check_flags
from captum_ext._validation import (
    check_choice,
    check_image,
    check_target,
)
from captum_ext._warnings import warn_caller
from captum_ext.attr.image_sizes import check_any_size, used_sizes
from captum_ext.attr.layer_arguments import check_layer_arguments
from captum_ext.attr.layers import (
    LayerEvaluation,
    evaluate_layer,
    in_input_shape,
    warn_of_zero_maps,
)
from captum_ext.attr.reshape import ReshapeTransform

__all__ = ["LayerCAMERAS", "fused_map", "unit_range"]

# Number of floats in one step of the fusion: few enough for a processor's cache.
_PIECE = 2**21


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

    Interpolation is linear in the maps and separable. Rows are interpolated first, a
    few at a time, and channels are summed before the columns are interpolated if that
    is less work: the full-size product of all channels is never stored.

    Args:
        activations (sequence of Tensor): Activations A_t of one example,
            (C, h_t, w_t) each.
        gradients (sequence of Tensor): Gradients W_t, in the same shapes.
        size (sequence of int): Height H and width W of the map.
        mode (str, optional): Interpolation mode of ``torch.nn.functional.interpolate``.
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
        """Mean with rows interpolated, (rows, columns of all sizes, C)."""
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
    """Stretch each map to the range [0, 1].

    Args:
        maps (Tensor): Maps (B, ...).

    Returns:
        *Tensor*: Maps in the same shape, zero for a constant map.

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
    r"""CAMERAS: a sharp class activation map from several sizes of the image.

    The image is enlarged step by step. At each size the activations of the layer and
    the gradients of the score at them are computed; both are interpolated to the size
    of the image and averaged over the sizes, and the map is their product,

    .. math::
        \Psi = f\Big(\mathrm{ReLU}\Big(\sum_k \bar W_k \odot \bar A_k\Big)\Big),

    stretched to [0, 1] by f. A size counts for an example only if it does not change
    its prediction, the largest output. With one output per example every size counts.

    Source: M. Jalwana, N. Akhtar, M. Bennamoun, A. Mian, CAMERAS: Enhanced Resolution
    And Sanity preserving Class Activation Mapping for image Saliency, CVPR 2021;
    Algorithm 1.

    Args:
        forward_func (Callable): The forward function of the model or any
            modification of it, for images of any size. It should return logits, whose
            gradients do not vanish where the model is confident.
        layer (nn.Module): Layer whose maps are used, usually the last convolutional
            one.
        device_ids (list[int], optional): Order of the devices of a DataParallel model,
            needed only if ``forward_func`` wraps that model. Default: None

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
        check_layer_arguments(forward_func, layer, device_ids)
        super().__init__(forward_func, layer, device_ids)

    def get_name(self) -> str:
        """Name of the method as in its paper."""
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
            inputs (Tensor): Images (B, C, H, W) to explain, or a tuple of one such
                tensor.
            target (int, tuple, Tensor, list, or Callable, optional): Output to explain,
                in any of Captum's forms: an int for all examples, a list or 1-D tensor
                of B ints, tuples for outputs of more axes; or a function of the output
                that returns one number per example, or a list of B functions of one
                example's output each (:mod:`captum_ext.targets`). None if
                ``forward_func`` returns one number per example. Default: None
            additional_forward_args (Any, optional): Further arguments of
                ``forward_func``, the same at all sizes. Default: None
            max_size (int or tuple[int, int], optional): Height and width of the largest
                image in pixels; an int is the length of the longer side and keeps the
                aspect ratio. An axis of at least that length keeps its own.
                Default: (1000, 1000)
            n_steps (int, optional): Number of sizes N, evenly spaced from the size of
                the image to ``max_size``. Default: 7
            sizes (sequence of int or tuple[int, int], optional): Sizes in pixels to
                use in addition to the image's own, instead of ``max_size`` and
                ``n_steps``. Default: None
            attribute_to_layer_input (bool, optional): Whether the input of the layer is
                used instead of its output. Default: False
            relu_attributions (bool, optional): Whether negative values are set to zero,
                as in the paper. Default: True
            normalize (bool, optional): Whether the map is stretched to [0, 1]. Without
                it, values have the unit of the score and can be compared between
                images. Default: True
            interpolate_mode (str, optional): Interpolation of images and maps:
                "bilinear", as in the paper, "bicubic" or "nearest".
                Default: "bilinear"
            grad_kwargs (dict[str, Any], optional): Further arguments of
                ``torch.autograd.grad``. Default: None
            reshape_transform (Callable, optional): Function that rearranges the
                activations of the layer to (B, C, h, w), for layers that return tokens
                (:func:`~captum_ext.attr.maps_of_tokens`) or keep channels last
                (:func:`~captum_ext.attr.maps_of_channels_last`). Default: None
            input_shaped (bool, optional): Whether the map is repeated along the channel
                axis of the input, as Captum's metrics need it. Default: False

        Returns:
            *Tensor* or *tuple[Tensor]* of **attributions**:
            - **attributions** (*Tensor* or *tuple[Tensor]*):
              (B, 1, H, W) at the size of ``inputs``, in their dtype and on their
              device; (B, C, H, W) if ``input_shaped``. Zero where no pixel supports the
              target.

        Raises:
            ValueError: If an argument is out of its range, if the model refuses a
                size, if the target does not fit the output, if the output does not
                hold one finite score per example, or if the layer is not called in the
                forward pass or returns no maps.
            TypeError: If an argument is of the wrong type.
        """
        image = check_image(inputs)
        target = check_target(target, len(image))
        check_choice("interpolate_mode", interpolate_mode, _MODES)
        check_flags(normalize=normalize, input_shaped=input_shaped)
        check_flags(relu_attributions=relu_attributions)
        size = (image.shape[2], image.shape[3])
        further_sizes = used_sizes(size, max_size, n_steps, sizes)[1:]
        if further_sizes:
            check_any_size(target)

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
            _check_layer_maps(evaluation.activations, len(image))
            return evaluation

        found = [evaluate(size)]
        found += [_unless_refused(evaluate, each) for each in further_sizes]
        kept = _kept(found)
        maps = _maps(found, kept, size, interpolate_mode)
        maps = F.relu(maps) if relu_attributions else maps
        warn_of_zero_maps("CAMERAS", [maps], found)
        maps = (_stretched(maps) if normalize else maps)[:, None].to(image)
        if input_shaped:
            return in_input_shape((maps,), inputs)
        return format_output(isinstance(inputs, tuple), (maps,))


def _stretched(maps: Tensor) -> Tensor:
    """Maps in the range [0, 1]; warn of those that have no range."""
    stretched = unit_range(maps)
    n_constant = int((maps.flatten(1).any(1) & ~stretched.flatten(1).any(1)).sum())
    if n_constant:
        warn_caller(
            f"CAMERAS's map is zero for {n_constant} of {len(maps)} examples: it is "
            f"the same at all pixels, as of a layer with one position."
        )
    return stretched


_MODES = ("bilinear", "bicubic", "nearest")


def _kept(found: Sequence[LayerEvaluation]) -> Tensor:
    """Whether a size keeps the prediction of an example, (sizes, B)."""
    _check_same_outputs([each.output for each in found])
    n_examples = len(found[0].activations[0])
    outputs = torch.stack([each.output.reshape(n_examples, -1) for each in found])
    predictions = outputs.argmax(2)
    kept = predictions == predictions[0]
    n_alone = int((~kept[1:].any(0)).sum())
    if len(found) > 1 and n_alone:
        warn_caller(
            f"CAMERAS uses one size for {n_alone} of {n_examples} examples, whose "
            f"prediction none of the {len(found) - 1} other sizes keeps."
        )
    return kept


def _maps(
    found: Sequence[LayerEvaluation], kept: Tensor, size: tuple[int, int], mode: str
) -> Tensor:
    """Map of each example, (B, H, W), from the sizes that count for it."""
    maps = []
    for i in range(kept.shape[1]):
        counted = [each for each, keep in zip(found, kept[:, i].tolist()) if keep]
        activations = [each.activations[0][i] for each in counted]
        gradients = [each.gradients[0][i] for each in counted]
        maps.append(fused_map(activations, gradients, size, mode))
    return torch.stack(maps)


def _unless_refused(
    evaluate: Callable[[tuple[int, int]], LayerEvaluation], size: tuple[int, int]
) -> LayerEvaluation:
    """Evaluate at another size; say in the error that the model refused it."""
    try:
        return evaluate(size)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"forward_func must accept images of any size, got an error at {size[0]} x "
            f"{size[1]} pixels ({reason}); pass sizes or max_size that it accepts, or "
            f"use LayerGradCamPlusPlus for a model of one size."
        ) from error


def _check_layer_maps(tensors: tuple[Tensor, ...], n_examples: int) -> None:
    """Refuse activations other than one tensor of maps (B, C, h, w)."""
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][0] != n_examples:
        raise ValueError(
            f"layer must return one tensor of maps ({n_examples}, C, h, w), got "
            f"{', '.join(map(str, shapes))}; use reshape_transform to rearrange other "
            f"shapes."
        )


def _check_same_outputs(outputs: Sequence[Tensor]) -> None:
    """Refuse outputs whose shape depends on the size of the image."""
    shapes = list(dict.fromkeys(tuple(output.shape) for output in outputs))
    if len(shapes) != 1:
        raise ValueError(
            f"forward_func must return outputs of one shape at all sizes, got "
            f"{', '.join(map(str, shapes))}."
        )
