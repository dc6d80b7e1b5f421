"""Grad-CAM++: channels weighted by the gradients that raise the score."""

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext._captum import TargetType, format_output
from captum_ext._type_checks import check_flags
from captum_ext._validation import check_inputs, check_not_negative, check_target
from captum_ext.attr.layer_arguments import check_layer_arguments
from captum_ext.attr.layers import (
    evaluate_layer,
    in_input_shape,
    warn_of_zero_maps,
)
from captum_ext.attr.reshape import ReshapeTransform

__all__ = ["LayerGradCamPlusPlus", "channel_weights"]


def channel_weights(activations: Tensor, gradients: Tensor, eps: float = 0) -> Tensor:
    r"""Weight of each channel of a layer.

    .. math::
        w_k = \sum_{ij} \alpha^k_{ij}\, \mathrm{ReLU}(g^k_{ij}), \quad
        \alpha^k_{ij} = \frac{(g^k_{ij})^2}
            {2 (g^k_{ij})^2 + \sum_{ab} A^k_{ab} (g^k_{ij})^3 + \epsilon},
        \quad g^k_{ij} = \frac{\partial S}{\partial A^k_{ij}}.

    This is the paper's closed form for exp(S). Its constant factor exp(S), which scales
    the whole map, is left out.

    Args:
        activations (Tensor): Activations A, (B, C, ...) with any further axes.
        gradients (Tensor): Gradients g, in the same shape.
        eps (float, optional): Constant epsilon, which is not in the paper. Default: 0

    Returns:
        *Tensor*: (B, C, 1, ...).

    Examples::

        >>> channel_weights(torch.ones(1, 4, 2, 2), torch.ones(1, 4, 2, 2)).flatten()
        tensor([0.6667, 0.6667, 0.6667, 0.6667])
    """
    A, g = (x.reshape(*x.shape[:2], -1) for x in (activations, gradients))
    # The fraction is reduced by g^2, which may underflow.
    denominator = 2 + A.sum(2, keepdim=True) * g
    if eps:
        denominator = denominator + eps / g.square()
    alpha = torch.where((g > 0) & (denominator != 0), 1 / denominator, 0)
    weights = (alpha * F.relu(g)).sum(2)
    return weights.reshape(*weights.shape, *(1,) * (activations.dim() - 2))


class LayerGradCamPlusPlus(LayerAttribution):
    r"""Grad-CAM++: class activation maps that find several objects of a class.

    The map is the sum over channels of a layer's activations, each channel weighted by
    the gradients that raise the score (:func:`channel_weights`),

    .. math::
        L_{ij} = \sum_k w_k A^k_{ij}.

    Grad-CAM averages the gradients of a channel over all positions; Grad-CAM++ sums the
    positive ones with weights that make small objects count as much as large ones. It
    assumes non-negative activations, as after a ReLU, and a score S before the softmax.

    Source: A. Chattopadhay, A. Sarkar, P. Howlader, V. Balasubramanian, Grad-CAM++:
    Generalized Gradient-Based Visual Explanations for Deep Convolutional Networks, WACV
    2018; the closed form for exp(S).

    Args:
        forward_func (Callable): The forward function of the model or any
            modification of it.
        layer (nn.Module): Layer whose maps are used, usually the last convolutional
            one.
        device_ids (list[int], optional): Order of the devices of a DataParallel model,
            needed only if ``forward_func`` wraps that model. Default: None

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
        >>> grad_cam = LayerGradCamPlusPlus(model, model[0])
        >>> grad_cam.attribute(torch.rand(1, 3, 32, 32), target=1).shape
        torch.Size([1, 1, 30, 30])
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
        return "Grad-CAM++"

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
        attr_dim_summation: bool = True,
        grad_kwargs: dict[str, Any] | None = None,
        reshape_transform: ReshapeTransform | None = None,
        input_shaped: bool = False,
        eps: float = 0,
    ) -> Tensor | tuple[Tensor, ...]:
        r"""
        Args:
            inputs (Tensor or tuple[Tensor, ...]): Inputs (B, ...) to explain: images
                (B, C, H, W), video (B, C, T, H, W) or any other inputs of the model.
            target (int, tuple, Tensor, list, or Callable, optional): Output to explain,
                in any of Captum's forms: an int for all examples, a list or 1-D tensor
                of B ints, tuples for outputs of more axes; or a function of the output
                that returns one number per example, or a list of B functions of one
                example's output each (:mod:`captum_ext.targets`). None if
                ``forward_func`` returns one number per example. Default: None
            additional_forward_args (Any, optional): Further arguments of
                ``forward_func``. Default: None
            attribute_to_layer_input (bool, optional): Whether the input of the layer is
                used instead of its output. Default: False
            relu_attributions (bool, optional): Whether negative values are set to zero,
                as in the paper. Default: False, as in Captum's LayerGradCam
            attr_dim_summation (bool, optional): Whether channels are summed.
                Default: True
            grad_kwargs (dict[str, Any], optional): Further arguments of
                ``torch.autograd.grad``. Default: None
            reshape_transform (Callable, optional): Function that rearranges the
                activations of the layer to (B, C, h, w), for layers that return tokens
                (:func:`~captum_ext.attr.maps_of_tokens`) or keep channels last
                (:func:`~captum_ext.attr.maps_of_channels_last`). Default: None
            input_shaped (bool, optional): Whether the map is interpolated linearly to
                the input's size and repeated along its channel axis, as Captum's
                metrics need it. Default: False
            eps (float, optional): Constant in the denominator of alpha. Other packages
                add 1e-6 to avoid division by zero, which is not needed here: it exceeds
                the squared gradients of usual networks and so changes the map.
                Default: 0, as in the paper

        Returns:
            *Tensor* or *tuple[Tensor, ...]* of **attributions**:
            - **attributions** (*Tensor* or *tuple[Tensor, ...]*):
              (B, 1, h, w) or (B, 1, t, h, w) at the size of the layer's maps; C instead
              of 1 without ``attr_dim_summation``; in the shape of ``inputs`` if
              ``input_shaped``. A tuple if the layer returns several tensors, as in
              Captum, or if ``inputs`` is a tuple of one.

        Raises:
            ValueError: If the target does not fit the output, if the output does not
                hold one finite score per example, if the layer is not called in the
                forward pass, or if ``input_shaped`` is set for several inputs or a
                layer without maps.
            TypeError: If an argument is of the wrong type.
        """
        tensors = check_inputs(inputs)
        target = check_target(target, len(tensors[0]))
        eps = check_not_negative("eps", eps)
        check_flags(
            relu_attributions=relu_attributions,
            attr_dim_summation=attr_dim_summation,
            input_shaped=input_shaped,
        )
        if input_shaped and not attr_dim_summation:
            raise ValueError(
                "input_shaped must be False without attr_dim_summation, got True."
            )
        evaluation = evaluate_layer(
            self.forward_func,
            self.layer,
            tensors,
            target,
            additional_forward_args,
            attribute_to_layer_input,
            reshape_transform,
            self.device_ids,
            grad_kwargs,
        )
        activations, gradients, _ = evaluation
        maps = tuple(
            channel_weights(A, g, eps) * A for A, g in zip(activations, gradients)
        )
        if attr_dim_summation:
            maps = tuple(each.sum(1, keepdim=True) for each in maps)
        if relu_attributions:
            maps = tuple(map(F.relu, maps))
        warn_of_zero_maps("Grad-CAM++", maps, [evaluation])
        if input_shaped:
            return in_input_shape(maps, inputs)
        # Captum's metrics pass a tuple of one, and expect one back.
        one_in_tuple = isinstance(inputs, tuple) and len(inputs) == 1
        return format_output(one_in_tuple or len(maps) > 1, maps)
