"""CAMERAS: activations and gradients fused over several image sizes."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from captum.attr import LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext._captum import TargetType, format_output
from captum_ext._type_checks import check_flags
from captum_ext._validation import (
    check_choice,
    check_image,
    check_target,
)
from captum_ext._warnings import warn_of_examples
from captum_ext.attr.image_sizes import (
    Size,
    SizeRule,
    aligned_sizes,
    check_any_size,
    checked_sizes,
    list_rule,
    search_rule,
)
from captum_ext.attr.kept_sizes import Evaluate, KeptSizes, keep_sizes, of_examples
from captum_ext.attr.layer_arguments import check_layer_arguments
from captum_ext.attr.layers import (
    IsNeeded,
    LayerEvaluation,
    Reshapes,
    evaluate_layer,
    in_input_shape,
    warn_of_zero_maps,
)
from captum_ext.attr.map_fusion import fused_map, sharpened, unit_range

__all__ = ["LayerCAMERAS"]

_MODES = ("bilinear", "bicubic", "nearest")
# Number of windows along the image's side over which maps of finer layers are averaged.
_WINDOWS = 7


class LayerCAMERAS(LayerAttribution):
    r"""CAMERAS: a sharp class activation map from several sizes of the image.

    The image is enlarged. At each size the activations of the layer and the gradients
    of the score at them are computed; both are interpolated to the size of the image
    and averaged over the sizes, and the map is their product,

    .. math::
        \Psi = f\Big(\mathrm{ReLU}\Big(\sum_k \bar W_k \odot \bar A_k\Big)\Big),

    stretched to [0, 1] by f. A size counts for an example only if it does not change
    its prediction, the largest output. With one output per example every size counts.

    The paper enlarges to fixed sizes (``sizes="paper"``), at many of which the
    prediction of a photograph changes. By default the largest size at which it holds is
    searched for instead, among sizes that are multiples of the layer's stride.

    Of several layers, the coarsest one decides where the class is, and finer ones
    where within its positions: its map is multiplied by theirs, which are computed from
    positive gradients as in LayerCAM at the image's own size, averaged over windows of
    a seventh of the image, and divided by their maximum. This is not in the paper.

    Source: M. Jalwana, N. Akhtar, M. Bennamoun, A. Mian, CAMERAS: Enhanced Resolution
    And Sanity preserving Class Activation Mapping for image Saliency, CVPR 2021;
    Algorithm 1.

    Args:
        forward_func (Callable): The forward function of the model or any
            modification of it, for images of any size. It should return logits, whose
            gradients do not vanish where the model is confident.
        layer (nn.Module or list[nn.Module]): Layer whose maps are used, usually the
            last convolutional one, or several layers, such as the last ones of the last
            two stages (``stages`` of :func:`~captum_ext.attr.last_map_layer`).
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
        layer: nn.Module | list[nn.Module],
        device_ids: list[int] | None = None,
    ) -> None:
        check_layer_arguments(forward_func, layer, device_ids, several=True)
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
        sizes: str | Sequence[int | Sequence[int]] = "search",
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = True,
        normalize: bool = True,
        interpolate_mode: str = "bilinear",
        grad_kwargs: dict[str, Any] | None = None,
        reshape_transform: Reshapes = None,
        input_shaped: bool = False,
        return_sizes: bool = False,
    ) -> Tensor | tuple[Any, ...]:
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
            n_steps (int, optional): Number of sizes N to evaluate, the most if they are
                searched, with the image's own. Default: 7
            sizes (str or sequence of int or tuple[int, int], optional): "search" to
                search for the largest size up to ``max_size`` that keeps the
                prediction of an example, and to spend what is left of ``n_steps`` on
                sizes below it; "paper" for ``n_steps`` sizes evenly spaced from the
                image's own to ``max_size``; or sizes in pixels to use in addition to
                the image's own. Default: "search"
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
            reshape_transform (Callable or list, optional): Function that rearranges the
                activations of the layer to (B, C, h, w), for layers that return tokens
                (:func:`~captum_ext.attr.maps_of_tokens`) or keep channels last
                (:func:`~captum_ext.attr.maps_of_channels_last`); a list has one or None
                for each layer. Default: None
            input_shaped (bool, optional): Whether the map is repeated along the channel
                axis of the input, as Captum's metrics need it. Default: False
            return_sizes (bool, optional): Whether the sizes tried are returned as well.
                Default: False

        Returns:
            *Tensor* or *tuple[Tensor]* of **attributions**, or *tuple* of these and
            **sizes** if ``return_sizes``:
            - **attributions** (*Tensor* or *tuple[Tensor]*):
              (B, 1, H, W) at the size of ``inputs``, in their dtype and on their
              device; (B, C, H, W) if ``input_shaped``. Zero where no pixel supports the
              target.
            - **sizes** (*list[dict[tuple[int, int], bool]]*): for each of the B
              examples the sizes tried, height and width in pixels in the order in which
              they were tried, and whether the prediction held there.

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
        check_flags(relu_attributions=relu_attributions, return_sizes=return_sizes)
        size = (image.shape[2], image.shape[3])
        most, n_steps, given = checked_sizes(size, max_size, n_steps, sizes)
        if n_steps > 1 if given is None else len(given) > 1:
            check_any_size(target)

        evaluator = partial(
            self._evaluator,
            image,
            target,
            additional_forward_args,
            interpolate_mode,
            attribute_to_layer_input=attribute_to_layer_input,
            grad_kwargs=grad_kwargs,
        )
        first = evaluator(self.layer, reshape_transform)(size, range(len(image)))
        rule = _rule(given, first.activations, size, most, n_steps)
        coarsest = _coarsest(first.activations)
        evaluate = evaluator(*_of_layer(coarsest, self.layer, reshape_transform))
        kept = keep_sizes(evaluate, first.at_layer(coarsest), size, rule)
        maps = _fused(kept, size, interpolate_mode)
        maps = _sharpened(maps, first, coarsest, interpolate_mode)
        maps = F.relu(maps) if relu_attributions else maps
        warn_of_zero_maps("CAMERAS", [maps], [first])
        maps = (_stretched(maps) if normalize else maps)[:, None].to(image)
        attributions = _formatted(maps, inputs, input_shaped)
        return (attributions, [e.tried for e in kept]) if return_sizes else attributions

    def _evaluator(
        self,
        image: Tensor,
        target: TargetType,
        additional_forward_args: object,
        mode: str,
        layer: nn.Module | list[nn.Module],
        reshape_transform: Reshapes,
        **options: Any,
    ) -> Evaluate:
        """Function of a size and of indices of examples that evaluates layers."""

        def evaluate(
            size: Size, examples: Sequence[int], is_needed: IsNeeded = None
        ) -> LayerEvaluation:
            x, chosen, arguments = of_examples(
                examples, image, target, additional_forward_args
            )
            evaluation = evaluate_layer(
                self.forward_func,
                layer,
                (F.interpolate(x, size, mode=mode),),
                chosen,
                arguments,
                reshape_transform=reshape_transform,
                device_ids=self.device_ids,
                is_needed=is_needed,
                **options,
            )
            _check_layer_maps(evaluation.activations, layer, len(examples))
            return evaluation

        return evaluate


def _rule(
    given: Sequence[Size] | None,
    activations: Sequence[Tensor],
    size: Size,
    most: Size,
    n_steps: int,
) -> SizeRule:
    """Rule that tries the given sizes, or searches among multiples of the stride."""
    if given is not None:
        return list_rule(given)
    sizes = aligned_sizes(size, most, _strides(activations, size))
    return search_rule(sizes, n_steps)


def _formatted(
    maps: Tensor, inputs: Tensor | tuple[Tensor, ...], input_shaped: bool
) -> Tensor | tuple[Tensor, ...]:
    """Maps (B, 1, H, W) in the structure of the inputs, or in their shape."""
    if input_shaped:
        return in_input_shape((maps,), inputs)
    return format_output(isinstance(inputs, tuple), (maps,))


def _stretched(maps: Tensor) -> Tensor:
    """Maps in the range [0, 1]; warn of those that have no range."""
    stretched = unit_range(maps)
    n_constant = int((maps.flatten(1).any(1) & ~stretched.flatten(1).any(1)).sum())
    warn_of_examples(
        "CAMERAS's map is zero",
        n_constant,
        len(maps),
        "it is the same at all pixels, as of a layer with one position",
    )
    return stretched


def _strides(activations: Sequence[Tensor], size: Size) -> Size:
    """Pixels from one position of the coarsest layer to the next, along both axes.

    Without padding a layer has fewer positions than size / stride, so that the ratio is
    rounded to a power of two, as strides are.
    """
    height, width = (
        2 ** max(round(math.log2(size[a] / each.shape[a + 2])) for each in activations)
        for a in (0, 1)
    )
    return max(1, height), max(1, width)


def _coarsest(activations: Sequence[Tensor]) -> int:
    """Index of the layer with the fewest positions, the last one of several such."""
    n_positions = [each[0, 0].numel() for each in activations]
    return len(n_positions) - 1 - n_positions[::-1].index(min(n_positions))


def _of_layer(
    index: int, layer: nn.Module | list[nn.Module], reshape_transform: Reshapes
) -> tuple[nn.Module, Reshapes]:
    """One of several layers, and its transform."""
    if isinstance(reshape_transform, list):
        reshape_transform = reshape_transform[index]
    return layer[index] if isinstance(layer, list) else layer, reshape_transform


def _fused(kept: Sequence[KeptSizes], size: Size, mode: str) -> Tensor:
    """Maps (B, H, W) of one layer from the sizes that each example keeps."""
    maps = [
        fused_map(
            [each.activations[0][0] for each in one.evaluations],
            [each.gradients[0][0] for each in one.evaluations],
            size,
            mode,
        )
        for one in kept
    ]
    return torch.stack(maps)


def _sharpened(
    maps: Tensor, first: LayerEvaluation, coarsest: int, mode: str
) -> Tensor:
    """Maps (B, H, W) of the coarsest layer, sharpened by those of all others."""
    size = maps.shape[1:]
    finer = [
        torch.stack([fused_map([a], [g], size, mode) for a, g in zip(A, F.relu(G))])
        for layer, (A, G) in enumerate(zip(first.activations, first.gradients))
        if layer != coarsest
    ]
    return sharpened(maps, finer, [n // _WINDOWS for n in size])


def _check_layer_maps(
    tensors: tuple[Tensor, ...], layer: nn.Module | list[nn.Module], n_examples: int
) -> None:
    """Check that activations, if any, are one tensor (B, C, h, w) per layer."""
    if not tensors:
        return
    n_layers = len(layer) if isinstance(layer, list) else 1
    shapes = [tuple(tensor.shape) for tensor in tensors]
    fit = all(len(each) == 4 and each[0] == n_examples for each in shapes)
    if len(shapes) != n_layers or not fit:
        raise ValueError(
            f"layer must return one tensor of maps ({n_examples}, C, h, w), got "
            f"{', '.join(map(str, shapes))}; use reshape_transform to rearrange other "
            f"shapes."
        )
