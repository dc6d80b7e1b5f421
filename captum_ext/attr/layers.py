"""Activations of a layer and gradients at it, for layer attributions."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

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
from captum_ext._outputs import (
    is_function,
    mismatch_error,
    output_tensor,
    select_scores,
)
from captum_ext._scores import advice_on_batch
from captum_ext._type_checks import check_finite, check_tensor
from captum_ext._validation import check_finite_scores
from captum_ext._warnings import warn_of_examples
from captum_ext.attr.layer_arguments import check_options
from captum_ext.attr.reshape import ReshapeTransform, keeps_channels_last, sized

__all__ = [
    "IsNeeded",
    "LayerEvaluation",
    "Reshapes",
    "check_gradients",
    "evaluate_layer",
    "in_input_shape",
    "warn_of_zero_maps",
]

# One transform for all layers, or a list of one per layer.
Reshapes = ReshapeTransform | list[ReshapeTransform | None] | None
# Function of the output that says whether gradients are needed.
IsNeeded = Callable[[Tensor], bool] | None


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

    def at_layer(self, index: int) -> "LayerEvaluation":
        """The evaluation without all other layers."""
        A, W = (each[index : index + 1] for each in self[:2])
        return self._replace(activations=A, gradients=W)


def check_gradients(model: object, *layers: nn.Module) -> None:
    """Raise an error for models whose layers have no gradients or take no hooks.

    Args:
        model (object): The model, or a function that calls it.
        *layers (nn.Module): Layers to explain.

    Raises:
        ValueError: If the model or the layer is scripted, traced or quantized.
    """
    # Layers are parts of the model.
    given = [model] if isinstance(model, nn.Module) else layers
    for module in chain.from_iterable(each.modules() for each in given):
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
    layer: nn.Module | Sequence[nn.Module],
    inputs: tuple[Tensor, ...],
    target: TargetType = None,
    additional_forward_args: object = None,
    attribute_to_layer_input: bool = False,
    reshape_transform: Reshapes = None,
    device_ids: list[int] | None = None,
    grad_kwargs: dict[str, Any] | None = None,
    is_needed: IsNeeded = None,
) -> LayerEvaluation:
    """Activations of layers and the gradients of the target's score at them.

    The part of the network before the first layer runs without building a graph, and
    only the gradient at the layers is computed. A layer may be followed by an in-place
    operation. No hooks are left on the model.

    Args:
        forward_func (Callable): The model or any modification of it.
        layer (nn.Module or sequence of nn.Module): Layer of the model, or several,
            whose tensors are returned one after the other.
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
        reshape_transform (Callable or list, optional): Function that rearranges
            activations, and gradients, to (B, C, h, w), or a list of one or None per
            layer. :func:`~captum_ext.attr.maps_of_tokens` gets the size of the image.
            Default: None
        device_ids (list[int], optional): Order of the devices of a DataParallel model
            that ``forward_func`` wraps. Default: None
        grad_kwargs (dict[str, Any], optional): Arguments for ``torch.autograd.grad``.
            Default: None
        is_needed (Callable, optional): Function of the output that says whether the
            activations and gradients are needed; where it returns False there is no
            backward pass. Default: None

    Returns:
        *LayerEvaluation*: Activations, gradients and output, detached; the output alone
        where it is all that is needed.

    Raises:
        ValueError: If the layer is not called in the forward pass, if it returns tokens
            or keeps channels last and there is no transform, if the target does not fit
            the output, if the output does not hold one finite score per example, or if
            the model is scripted, traced or quantized.
        TypeError: If the output holds no scores.
    """
    layers = [layer] if isinstance(layer, nn.Module) else list(layer)
    check_gradients(forward_func, *layers)
    check_options(reshape_transform, grad_kwargs, attribute_to_layer_input, len(layers))
    reached: list[nn.Module] = []
    outputs: list[Tensor] = []

    def enable_grad(module: nn.Module, *values: object) -> None:
        _check_layer_tensors(values[-1])
        reached.append(module)
        torch.set_grad_enabled(True)

    def score(*arguments: object) -> Tensor:
        # The hooks turn gradients on again when the first layer is reached.
        with torch.no_grad(), advice_on_batch(inputs):
            output = forward_func(*arguments)
        _check_called(layers, reached)
        selected = _one_each(output, target, len(inputs[0]))
        compared = selected if is_function(target) else output_tensor(output)
        outputs.append(compared.detach())
        scores = _check_example_scores(selected)
        if is_needed is not None and not is_needed(outputs[0]):
            raise _OutputSuffices
        return scores

    warn_of_training_mode(forward_func)
    hooked = _hooked(layers, attribute_to_layer_input, enable_grad)
    found: Any = None
    suffices = contextlib.suppress(_OutputSuffices)
    with suffices, hooked, buffers_kept(forward_func):
        found = compute_layer_gradients_and_eval(
            score,
            layers,
            # Copies, because a model may change its inputs in place.
            tuple(tensor.detach().clone() for tensor in inputs),
            None,
            outside_inference_mode(additional_forward_args),
            device_ids=device_ids or getattr(forward_func, "device_ids", None),
            attribute_to_layer_input=attribute_to_layer_input,
            grad_kwargs=grad_kwargs,
        )
    return _evaluation(found, outputs[0], reshape_transform, inputs[0])


class _OutputSuffices(Exception):
    """Leaves the function of Captum before its backward pass."""


def _evaluation(
    found: Any, output: Tensor, reshape_transform: Reshapes, inputs: Tensor
) -> LayerEvaluation:
    """Evaluation from Captum's gradients and activations of the layers, if any."""
    if found is None:
        return LayerEvaluation((), (), output)
    gradients, activations = found
    reshapes = _transforms(reshape_transform, activations, inputs)
    return LayerEvaluation(
        _all_reshaped(reshapes, activations),
        _all_reshaped(reshapes, gradients),
        output,
    )


def _all_reshaped(
    reshapes: Sequence[ReshapeTransform | None], tensors: Sequence[tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Maps of all layers, one after the other."""
    return tuple(chain.from_iterable(map(_reshaped, reshapes, tensors)))


def _transforms(
    reshapes: Reshapes, activations: Sequence[tuple[Tensor, ...]], inputs: Tensor
) -> list[ReshapeTransform | None]:
    """The transform of each layer with the size of the image."""
    if not isinstance(reshapes, list):
        reshapes = [reshapes] * len(activations)
    pairs = zip(reshapes, activations)
    return [_transform(each, tensors, inputs) for each, tensors in pairs]


def _one_each(output: object, target: TargetType, n_examples: int) -> Tensor:
    """The target's number of each example."""
    selected = select_scores(output, target)
    if selected.numel() != n_examples:
        raise mismatch_error(output, target, n_examples)
    return selected


def _transform(
    reshape: ReshapeTransform | None, activations: tuple[Tensor, ...], inputs: Tensor
) -> ReshapeTransform | None:
    """The transform with the size of the image if it needs it; None for maps."""
    if reshape is not None:
        return sized(reshape, inputs.shape[2:] if inputs.dim() == 4 else None)
    if inputs.dim() in (4, 5):
        _check_axes(activations, inputs.shape[2:])
    return None


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


@contextlib.contextmanager
def _hooked(
    layers: Sequence[nn.Module], at_input: bool, call: Callable[..., None]
) -> Iterator[None]:
    """Call a function when a layer gets its input, or returns its output."""
    with contextlib.ExitStack() as stack:
        for layer in layers:
            if at_input:
                handle = layer.register_forward_pre_hook(call)
            else:
                handle = layer.register_forward_hook(call)
            stack.enter_context(handle)
        yield


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
    shaped = resize(_check_input_shaped(maps, tensors), tensors[0].shape[2:])
    shaped = shaped.expand_as(tensors[0]).to(tensors[0]).contiguous()
    return format_output(isinstance(inputs, tuple), (shaped,))


def warn_of_zero_maps(
    method: str, maps: Sequence[Tensor], evaluations: Sequence[LayerEvaluation]
) -> None:
    """Warn of maps that are zero everywhere, once for each reason.

    Args:
        method (str): Name of the method.
        maps (sequence of Tensor): Maps (B, ...), before they are stretched to a range.
        evaluations (sequence of LayerEvaluation): What they were computed from.
    """
    zero = ~_any(maps)
    if not zero.any():
        return
    influence = _any([each for e in evaluations for each in e.gradients])
    activity = _any([each for e in evaluations for each in e.activations])
    for reason, concerned in (
        (
            "the gradient of the score at the layer is zero, as at the patch tokens of "
            "a transformer's last block; last_map_layer finds a layer that matters",
            zero & ~influence,
        ),
        ("the activations of the layer are zero", zero & influence & ~activity),
        (
            "all evidence at the layer is negative: nothing there raises the score",
            zero & influence & activity,
        ),
    ):
        n_zero = int(concerned.sum())
        warn_of_examples(f"{method}'s map is zero", n_zero, len(zero), reason)


def _any(tensors: Sequence[Tensor]) -> Tensor:
    """Whether an example has any nonzero number in any of the tensors, (B,)."""
    return torch.stack([each.reshape(len(each), -1).any(1) for each in tensors]).any(0)


def _check_example_scores(scores: Tensor) -> Tensor:
    """Scores as (B,), checked to be finite and to have a gradient."""
    if not scores.requires_grad:
        raise ValueError(
            "layer must have a differentiable influence on the score, got a score "
            "without a gradient: for a model without gradients use PNRISE."
        )
    check_finite_scores(scores.detach())
    return scores.flatten()


def _check_layer_tensors(values: object) -> None:
    """Check that a layer returns, or takes, a tensor or a tuple of tensors."""
    within = "a tuple with " if isinstance(values, tuple) else ""
    for value in values if isinstance(values, tuple) else (values,):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"layer must return a tensor or a tuple of tensors, got {within}"
                f"{type(value).__name__}: give the part of it that returns the tensor "
                f"to explain."
            )


def _check_called(layers: Sequence[nn.Module], called: Sequence[nn.Module]) -> None:
    """Check that all layers were called in the forward pass."""
    for layer in layers:
        if layer not in called:
            raise ValueError(
                f"layer must be a module that forward_func calls, got "
                f"{type(layer).__name__}, which was not called."
            )


def _check_axes(activations: tuple[Tensor, ...], size: Sequence[int]) -> None:
    """Check that activations are no tokens, nor maps with channels last."""
    maps = "(B, C, h, w), such as maps_of_tokens"
    if len(size) == 3:
        maps = "(B, C, t, h, w) of video"
    for each in activations:
        if each.dim() == 3:
            raise ValueError(
                f"reshape_transform must rearrange tokens to maps {maps}, got none for "
                f"activations of shape {tuple(each.shape)}."
            )
        if each.dim() in (4, 5) and keeps_channels_last(each.shape, size):
            raise ValueError(
                f"reshape_transform must rearrange channels that are last, such as "
                f"maps_of_channels_last, got none for activations of shape "
                f"{tuple(each.shape)} of an image of {size[-2]} x {size[-1]} pixels."
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
