"""Arguments that layer attributions are built from."""

from captum_ext._type_checks import check_callable, check_module, check_sequence
from captum_ext._validation import check_integer

__all__ = ["check_layer_arguments"]


def check_layer_arguments(
    forward_func: object, layer: object, device_ids: object
) -> None:
    """Refuse arguments that describe no layer of a model."""
    check_callable("forward_func", forward_func)
    check_module("layer", layer)
    if device_ids is not None:
        for device in check_sequence("device_ids", device_ids, "integers"):
            check_integer("device_ids", device, 0)
