"""Activations of a layer and gradients at it, for layer attributions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from captum_ext._captum import (
    TargetType,
    compute_layer_gradients_and_eval,
    format_output,
)
from captum_ext._interpolation import resize
from captum_ext._modes import (
    buffers_kept,
    outside_inference_mode,
    warn_of_training_mode,
)
from captum_ext._outputs import is_function, misfit, output_tensor, select_scores
from captum_ext._type_checks import (
    check_finite,
    check_module,
    check_tensor,
)
from captum_ext._validation import (
    advice_on_batch,
    check_inputs,
    check_integer,
)
from captum_ext.attr.layer_arguments import check_options

__all__ = [
    "LayerEvaluation",
    "ReshapeTransform",
    "check_gradients",
    "evaluate_layer",
    "in_input_shape",
    "last_map_layer",
    "maps_of_channels_last",
    "maps_of_tokens",
]

ReshapeTransform = Callable[[Tensor], Tensor]


class LayerEvaluation(NamedTuple):
    """One forward pass, and the backward pass to the layer.

    Args:
        activations (tuple[Tensor, ...]): Output of the layer, or its input, (B, ...).
        gradients (tuple[Tensor, ...]): Gradients of the score at the activations, in
            the same shapes.
        output (Tensor): Output of the forward function, (B, ...); the scores (B,) if
            the target is a function.
    """

    activations: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]
    output: Tensor


def check_gradients(model: object, layer: object = None) -> None:
    """Refuse a model whose layers have no gradients, or cannot be observed.

    Args:
        model (object): The model, or a function that calls it.
        layer (object, optional): Layer to explain. Default: None

    Raises:
        ValueError: If the model or the layer is scripted, traced or quantized.
    """
    given = [part for part in (model, layer) if isinstance(part, nn.Module)]
    for module in (module for part in given for module in part.modules()):
        scripted = isinstance(module, torch.jit.ScriptModule)
        if scripted or ".quantized." in type(module).__module__:
            raise ValueError(
                f"layer must belong to a model in eager mode with gradients, got a "
                f"{'scripted' if scripted else 'quantized'} one: use PNRISE, which "
                f"needs only scores."
            )


@torch.inference_mode(False)
def evaluate_layer(
    forward_func: Callable[..., Tensor],
    layer: nn.Module,
    inputs: tuple[Tensor, ...],
    target: TargetType = None,
    additional_forward_args: object = None,
    attribute_to_layer_input: bool = False,
    reshape_transform: ReshapeTransform | None = None,
    device_ids: list[int] | None = None,
    grad_kwargs: dict[str, Any] | None = None,
) -> LayerEvaluation:
    """Activations of a layer and the gradients of the target's score at them.

    The part of the network before the layer runs without building a graph, and only
    the gradient at the layer is computed. The layer may be followed by an in-place
    operation. No hooks are left on the model.

    Args:
        forward_func (Callable): The model or any modification of it.
        layer (nn.Module): Layer of the model.
        inputs (tuple[Tensor, ...]): Inputs (B, ...).
        target (int, tuple, Tensor, list, or Callable, optional): Output to explain, in
            any of Captum's forms: an int for all examples, a list or 1-D tensor of B
            ints, tuples for outputs of more axes; or a function of the output that
            returns one number per example, or a list of B functions of one example's
            output each (:mod:`captum_ext.targets`). Default: None
        additional_forward_args (Any, optional): Further arguments of
            ``forward_func``. Default: None
        attribute_to_layer_input (bool, optional): Whether the input of the layer is
            used instead of its output. Default: False
        reshape_transform (Callable, optional): Function that rearranges activations,
            and gradients, to (B, C, h, w). Default: None
        device_ids (list[int], optional): Order of the devices of a DataParallel model
            that ``forward_func`` wraps. Default: None
        grad_kwargs (dict[str, Any], optional): Arguments for ``torch.autograd.grad``.
            Default: None

    Returns:
        *LayerEvaluation*: Activations, gradients and output, detached.

    Raises:
        ValueError: If the layer is not called in the forward pass, if the target does
            not fit the output, or if the output does not hold one finite score per
            example, or if the model is scripted, traced or quantized.
        TypeError: If the output holds no scores.
    """
    check_gradients(forward_func, layer)
    check_options(reshape_transform, grad_kwargs, attribute_to_layer_input)
    reached: list[nn.Module] = []
    outputs: list[Tensor] = []

    def enable_grad(module: nn.Module, *values: object) -> None:
        _check_layer_tensors(values[-1])
        reached.append(module)
        torch.set_grad_enabled(True)

    def score(*arguments: object) -> Tensor:
        # The hook turns gradients on again when the layer is reached.
        with torch.no_grad(), advice_on_batch(inputs):
            output = forward_func(*arguments)
        _check_layer_was_reached(layer, bool(reached))
        selected = select_scores(output, target)
        if selected.numel() != len(inputs[0]):
            raise misfit(output, target, len(inputs[0]))
        compared = selected if is_function(target) else output_tensor(output)
        outputs.append(compared.detach())
        return _check_example_scores(selected)

    warn_of_training_mode(forward_func)
    handle = _hook(layer, attribute_to_layer_input, enable_grad)
    try:
        with buffers_kept(forward_func):
            gradients, activations = compute_layer_gradients_and_eval(
                score,
                layer,
                # Copies, because a model may change its inputs in place.
                tuple(tensor.detach().clone() for tensor in inputs),
                None,
                outside_inference_mode(additional_forward_args),
                device_ids=device_ids or getattr(forward_func, "device_ids", None),
                attribute_to_layer_input=attribute_to_layer_input,
                grad_kwargs=grad_kwargs,
            )
    finally:
        handle.remove()
    return LayerEvaluation(
        _reshaped(reshape_transform, activations),
        _reshaped(reshape_transform, gradients),
        outputs[0],
    )


def _reshaped(
    reshape: ReshapeTransform | None, tensors: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Detached activations or gradients as maps, which are finite."""
    maps = tuple(tensor.detach() for tensor in tensors)
    name = "layer"
    if reshape is not None:
        name = "reshape_transform"
        maps = tuple(
            check_tensor(name, reshape(each), "a function that returns a tensor")
            for each in maps
        )
    for each in maps:
        check_finite(name, each)
    return maps


def _hook(
    layer: nn.Module, at_input: bool, call: Callable[..., None]
) -> RemovableHandle:
    if at_input:
        return layer.register_forward_pre_hook(call)
    return layer.register_forward_hook(call)


def in_input_shape(
    maps: tuple[Tensor, ...], inputs: Tensor | tuple[Tensor, ...]
) -> Tensor | tuple[Tensor, ...]:
    """Interpolate a layer's map to the shape of the one input.

    Args:
        maps (tuple[Tensor, ...]): One map (B, 1, h, w) or (B, 1, t, h, w).
        inputs (Tensor or tuple[Tensor, ...]): One tensor (B, C, ...) with as many
            axes.

    Returns:
        *Tensor* or *tuple[Tensor, ...]*: Map interpolated linearly and repeated along
        the channel axis; a tuple if ``inputs`` is one.

    Raises:
        ValueError: If there are several maps or inputs, or their axes differ.
    """
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    shaped = _check_input_shaped(maps, tensors)
    shaped = resize(shaped, tensors[0].shape[2:])
    shaped = shaped.expand_as(tensors[0]).to(tensors[0]).contiguous()
    return format_output(isinstance(inputs, tuple), (shaped,))


def last_map_layer(
    model: nn.Module, inputs: Tensor | tuple[Tensor, ...]
) -> tuple[str, nn.Module]:
    """Last module of a model that returns maps, where a CAM is usually computed.

    It is the last module that returns maps (B, C, h, w) of more than one pixel, before
    they are pooled or flattened: ``layer4`` of a ResNet, ``features`` of a MobileNet.
    Of nested modules that end with the same layer it is the outermost. Costs one
    forward pass.

    Args:
        model (nn.Module): Classifier.
        inputs (Tensor or tuple[Tensor, ...]): Inputs of the classifier, (B, ...).

    Returns:
        *tuple[str, nn.Module]*: Name of the module within the model, and the module.

    Raises:
        ValueError: If no module returns maps.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
        >>> last_map_layer(model, torch.rand(1, 3, 32, 32))
        ('0', Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1)))
    """
    check_module("model", model)
    tensors = check_inputs(inputs)
    found: list[tuple[str, nn.Module]] = []

    def note(name: str, module: nn.Module, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            if output.shape[2] * output.shape[3] > 1:
                found.append((name, module))

    handles = [
        module.register_forward_hook(
            lambda module, _, output, name=name: note(name, module, output)
        )
        for name, module in model.named_modules()
        if name
    ]
    try:
        with torch.no_grad(), buffers_kept(model), advice_on_batch(tensors):
            model(*(tensor.clone() for tensor in tensors))
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise ValueError(
            "model must have a module that returns maps (B, C, h, w) of more than one "
            "pixel, got none."
        )
    return found[-1]


def maps_of_channels_last(activations: Tensor) -> Tensor:
    """Maps of a layer that keeps channels last, as in Swin transformers.

    Args:
        activations (Tensor): Activations (B, h, w, C).

    Returns:
        *Tensor*: Maps (B, C, h, w).

    Examples::

        >>> maps_of_channels_last(torch.rand(1, 7, 7, 768)).shape
        torch.Size([1, 768, 7, 7])
    """
    check_tensor("activations", activations)
    if activations.dim() < 3:
        raise ValueError(
            f"activations must have shape (B, h, w, C), got {tuple(activations.shape)}."
        )
    return activations.movedim(-1, 1)


def maps_of_tokens(
    activations: Tensor, n_prefix: int = 1, width: int | None = None
) -> Tensor:
    """Maps of a layer that returns tokens, as in vision transformers.

    Args:
        activations (Tensor): Tokens (B, n_prefix + h * w, C), row by row.
        n_prefix (int, optional): Number of tokens before those of the image, such as
            the class token. Default: 1
        width (int, optional): Number of tokens in a row, w. Default: None (as many as
            there are rows)

    Returns:
        *Tensor*: Maps (B, C, h, w).

    Raises:
        ValueError: If the tokens do not fill rows of that width.

    Examples::

        >>> maps_of_tokens(torch.rand(1, 197, 768)).shape
        torch.Size([1, 768, 14, 14])
    """
    check_tensor("activations", activations)
    n_prefix = check_integer("n_prefix", n_prefix, 0)
    width = width if width is None else check_integer("width", width, 1)
    if activations.dim() != 3:
        raise ValueError(
            f"activations must be tokens (B, n, C), got {tuple(activations.shape)}."
        )
    patches = activations[:, n_prefix:]
    n = patches.shape[1]
    width = round(n**0.5) if width is None else width
    if n == 0 or n % width:
        raise ValueError(
            f"activations must be tokens (B, n_prefix + h * width, C), for n_prefix = "
            f"{n_prefix} and width = {width}, got shape {tuple(activations.shape)}."
        )
    return patches.unflatten(1, (-1, width)).movedim(-1, 1)


def _check_example_scores(scores: Tensor) -> Tensor:
    """Scores as (B,); refuse any that are not finite or have no gradient."""
    if not scores.requires_grad:
        raise ValueError(
            "layer must have a differentiable influence on the score, got a score "
            "without a gradient: for a model without gradients use PNRISE."
        )
    n_bad = int((~torch.isfinite(scores.detach())).sum())
    if n_bad:
        raise ValueError(
            f"forward_func must return finite scores, got NaN or infinity for {n_bad} "
            f"of {scores.numel()} examples."
        )
    return scores.flatten()


def _check_layer_tensors(values: object) -> None:
    """Refuse what a layer returns or takes if it is no tensor, nor a tuple of some."""
    if not isinstance(values, tuple):
        values = (values,)
    for value in values:
        if not isinstance(value, Tensor):
            raise TypeError(
                f"layer must return a tensor or a tuple of tensors, got "
                f"{type(value).__name__}: give the part of it that returns the tensor "
                f"to explain."
            )


def _check_layer_was_reached(layer: object, reached: bool) -> None:
    """Refuse a layer that was not called in the forward pass."""
    if not reached:
        raise ValueError(
            f"layer must be a module that forward_func calls, got "
            f"{type(layer).__name__}, which was not called."
        )


def _check_input_shaped(maps: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> Tensor:
    """The one map (B, 1, ...) that can be resized to the shape of the one input."""
    shapes = [tuple(each.shape) for each in (*maps, *inputs)]
    fits = len(shapes) == 2 and len(shapes[0]) == len(shapes[1]) in (3, 4, 5)
    if not fits or shapes[0][:2] != (shapes[1][0], 1):
        raise ValueError(
            f"input_shaped must be False unless one map (B, 1, ...) has as many axes "
            f"as the one input, got shapes {', '.join(map(str, shapes))}."
        )
    return maps[0]
