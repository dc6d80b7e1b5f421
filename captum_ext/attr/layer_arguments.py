"""Checks of the arguments that layer attributions share."""

from captum_ext._type_checks import (
    check_callable,
    check_flags,
    check_instance,
    check_module,
    check_sequence,
)
from captum_ext._validation import check_integer

__all__ = ["check_layer_arguments", "check_options"]


def check_layer_arguments(
    forward_func: object, layer: object, device_ids: object, several: bool = False
) -> None:
    """Check the arguments of a constructor; ``several`` allows a list of layers."""
    check_callable("forward_func", forward_func)
    for each in layer if several and isinstance(layer, list) and layer else [layer]:
        check_module("layer", each)
    if device_ids is not None:
        for device in check_sequence("device_ids", device_ids, "integers"):
            check_integer("device_ids", device, 0)


def check_options(
    reshape_transform: object,
    grad_kwargs: object,
    attribute_to_layer_input: object,
    n_layers: int,
) -> None:
    """Check the options that the ``attribute`` methods of layers share."""
    check_flags(attribute_to_layer_input=attribute_to_layer_input)
    given = reshape_transform
    for each in given if isinstance(given, list) else [given]:
        if each is not None:
            check_callable("reshape_transform", each)
    if isinstance(given, list) and len(given) != n_layers:
        raise ValueError(
            f"reshape_transform must be one function for each of the {n_layers} "
            f"layers, got {len(given)}."
        )
    if grad_kwargs is not None:
        check_instance("grad_kwargs", grad_kwargs, dict)
