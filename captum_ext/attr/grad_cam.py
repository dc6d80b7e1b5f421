"""Grad-CAM: channels of a layer weighted by their mean gradient."""

from typing import Any

from captum.attr import LayerGradCam as CaptumLayerGradCam
from captum.log import log_usage
from torch import Tensor
from torch.nn import functional as F

from captum_ext._captum import TargetType
from captum_ext._validation import check_inputs, check_target
from captum_ext.attr.layers import evaluate_layer, warn_of_zero_maps
from captum_ext.attr.reshape import ReshapeTransform

__all__ = ["LayerGradCam"]


class LayerGradCam(CaptumLayerGradCam):
    """Captum's Grad-CAM, also for layers of transformers; warns of maps that are zero.

    Args:
        forward_func (Callable): The forward function of the model.
        layer (nn.Module): Layer whose maps are used.
        device_ids (list[int], optional): As in Captum. Default: None
    """

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
    ) -> Tensor:
        """
        Args:
            inputs (Tensor or tuple[Tensor, ...]): Inputs (B, ...) to explain.
            target (int, tuple, Tensor, or list, optional): Output to explain.
                Default: None
            additional_forward_args (Any, optional): Further arguments of
                ``forward_func``. Default: None
            attribute_to_layer_input (bool, optional): Whether the input of the layer is
                used instead of its output. Default: False
            relu_attributions (bool, optional): Whether negative values are set to zero.
                Default: False
            attr_dim_summation (bool, optional): Whether channels are summed.
                Default: True
            grad_kwargs (dict[str, Any], optional): Further arguments of
                ``torch.autograd.grad``. Default: None
            reshape_transform (Callable, optional): Function that rearranges the
                activations of the layer to (B, C, h, w). Default: None

        Returns:
            *Tensor* of **attributions**:
            - **attributions** (*Tensor*): (B, 1, h, w) at the size of the layer's maps;
              C instead of 1 without ``attr_dim_summation``.
        """
        tensors = check_inputs(inputs)
        target = check_target(target, len(tensors[0]))
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
        A, g = evaluation.activations[0], evaluation.gradients[0]
        # Gradients of vectors are the weights.
        positions = tuple(range(2, g.dim()))
        maps = (g.mean(positions, keepdim=True) if positions else g) * A
        maps = maps.sum(1, keepdim=True) if attr_dim_summation else maps
        maps = F.relu(maps) if relu_attributions else maps
        warn_of_zero_maps("Grad-CAM", [maps], [evaluation])
        return maps
