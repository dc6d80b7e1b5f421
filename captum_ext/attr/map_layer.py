"""Find the layer of a model whose maps a class activation map needs."""

import contextlib
import inspect
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from captum_ext._modes import buffers_kept
from captum_ext._outputs import output_tensor
from captum_ext._scores import advice_on_batch
from captum_ext._type_checks import check_module
from captum_ext._validation import check_inputs
from captum_ext.attr.layers import check_gradients
from captum_ext.attr.reshape import (
    MAX_PREFIX,
    ReshapeTransform,
    keeps_channels_last,
    maps_of_channels_last,
    maps_of_tokens,
    maps_of_tokens_first,
    sized,
    token_grid,
)

__all__ = [
    "MapLayer",
    "last_map_layer",
    "map_layer",
]

# Layers that return their input: the layer before has the more telling name.
_PASSING_ON = (nn.Identity, nn.Dropout)
_ADAPTIVE_POOLS = (
    *(nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d),
)


class MapLayer(NamedTuple):
    """A layer whose outputs are maps, or can be rearranged to maps.

    Attributes:
        name (str): Name of the layer within the model.
        layer (nn.Module): The layer.
        reshape_transform (Callable, optional): Function that rearranges the layer's
            outputs to maps (B, C, h, w), or (B, C, t, h, w) of video, for the argument
            of this name of layer methods. None if they are such maps.
        finer (MapLayer, optional): Last layer of the stage before, whose maps have more
            positions. None if there is none, or if it was not looked for.
    """

    name: str
    layer: nn.Module
    reshape_transform: ReshapeTransform | None = None
    finer: "MapLayer | None" = None

    @property
    def stages(self) -> list["MapLayer"]:
        """The layer and the finer ones, the finest first."""
        return [self] if self.finer is None else [*self.finer.stages, self]

    def describe(self) -> str:
        """The name, and how outputs are rearranged if they are."""
        reshape = self.reshape_transform
        if reshape is None:
            return self.name
        if reshape is maps_of_channels_last:
            return f"{self.name} (channels last)"
        n_prefix = inspect.signature(reshape).parameters["n_prefix"].default
        return f"{self.name} (tokens, n_prefix={n_prefix})"


class _Output(NamedTuple):
    """An output of a module that can be maps of the image.

    Attributes:
        name (str): Name of the module.
        module (nn.Module): The module.
        tensor (Tensor): The output.
        reshape (Callable, optional): Function that makes maps of it, with the size of
            the image; None if it holds maps.
    """

    name: str
    module: nn.Module
    tensor: Tensor
    reshape: ReshapeTransform | None

    @property
    def is_block(self) -> bool:
        """Whether the module consists of others."""
        return next(self.module.children(), None) is not None

    @property
    def is_tokens(self) -> bool:
        """Whether the output holds tokens."""
        return self.tensor.dim() == 3


def last_map_layer(model: nn.Module, inputs: Tensor | tuple[Tensor, ...]) -> MapLayer:
    """Last layer of a model that still has maps, where a CAM is usually computed.

    It is the last module whose output holds maps of more than one pixel that influence
    the largest output: maps (B, C, h, w), as ``layer4`` of a ResNet or ``features`` of
    a MobileNet; maps with channels last, (B, h, w, C), as in Swin transformers; either
    with one more axis, of time or depth, for video and volumes; or tokens
    (B, n + h * w, C), as in vision transformers of images. Of the latter it is the last
    block whose patch tokens the score depends on: with a class token that is not the
    last block, of whose output the score sees the class token only. Pooling to a fixed
    size (VGG's ``avgpool``) and what follows it is left out. Of nested modules that end
    with the same layer it is the outermost. The last layer of the stage before, such as
    ``layer3`` of a ResNet, is its ``finer``. Costs one forward and one backward pass.

    Args:
        model (nn.Module): Classifier.
        inputs (Tensor or tuple[Tensor, ...]): Inputs of the classifier, (B, ...).

    Returns:
        *MapLayer*: Name of the module within the model, the module, and the
        ``reshape_transform`` that layer methods need for it.

    Raises:
        ValueError: If no module returns maps, none of them influences the output, the
            model turns a video into tokens, or it is scripted, traced or quantized.

    Examples::

        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
        >>> last_map_layer(model, torch.rand(1, 3, 32, 32)).name
        '0'
    """
    check_module("model", model)
    check_gradients(model)
    tensors = check_inputs(inputs)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        buffers_kept(model),
        advice_on_batch(tensors),
    ):
        copies = _copied(tensors)
        found, token_blocks, output = _recorded(model, copies)
        largest = output.reshape(len(output), -1).amax(1) if output.dim() else output
        influential = _influential(found, largest.sum(), _image_size(copies))
    if not found:
        raise ValueError(
            "model must have a module that returns maps (B, C, h, w) or tokens of more "
            "than one pixel, or for video maps (B, C, t, h, w), got none."
        )
    usable = _outside_of_last_blocks(influential, token_blocks)
    if not usable:
        raise ValueError(
            "model must have a module whose maps influence its largest output, got a "
            "gradient of zero at all of them."
        )
    last = usable[-1]
    finer = _last_of_stage_before(usable, _image_size(copies))
    return MapLayer(
        last.name,
        last.module,
        last.reshape,
        finer and MapLayer(finer.name, finer.module, finer.reshape),
    )


def map_layer(
    model: nn.Module, inputs: Tensor | tuple[Tensor, ...], name: str | None
) -> MapLayer:
    """A layer of a model by its name, with the transform that makes maps of its output.

    Args:
        model (nn.Module): Classifier.
        inputs (Tensor or tuple[Tensor, ...]): Inputs of the classifier, (B, ...).
        name (str, optional): Name of the module within the model; None for
            :func:`last_map_layer`.

    Returns:
        *MapLayer*: The layer; without a transform if its output is not known to hold
        maps or tokens.
    """
    if name is None:
        return last_map_layer(model, inputs)
    with torch.no_grad(), buffers_kept(model):
        found, _, _ = _recorded(model, _copied(inputs))
    layer = model.get_submodule(name)
    reshapes = [each.reshape for each in found if each.module is layer]
    return MapLayer(name, layer, reshapes[-1] if reshapes else None)


def _copied(inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Inputs that a model may change in place, two examples at least.

    With one example the batch axis could be any axis of length 1.
    """
    copies = []
    for each in inputs if isinstance(inputs, tuple) else (inputs,):
        copy = torch.cat([each, each]) if len(each) == 1 else each.clone()
        # A leaf that requires a gradient must not be changed in place.
        leaf = copy.detach().requires_grad_(each.is_floating_point())
        copies.append(leaf.clone())
    return tuple(copies)


def _recorded(
    model: nn.Module, inputs: tuple[Tensor, ...]
) -> tuple[list[_Output], list[str], Tensor]:
    """Outputs that can be maps, names of blocks that get tokens, the model's output.

    Outputs are in the order in which the modules end, the outermost last.
    """
    found: list[_Output] = []
    token_blocks: list[str] = []
    size, n_examples = _image_size(inputs), len(inputs[0])
    # Positions of the last maps, and of pooling to a fixed size at most.
    current, fixed = math.inf, 1

    def note(
        name: str,
        module: nn.Module,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        output: object,
    ) -> None:
        nonlocal current, fixed
        arguments = (*args, *kwargs.values())
        if any(
            isinstance(each, Tensor)
            and each.dim() == 3
            and _readable(each.shape, n_examples, size, current)
            for each in arguments
        ):
            token_blocks.append(name)
        if isinstance(output, tuple) and len(output) == 1:
            (output,) = output
        if not isinstance(output, Tensor) or isinstance(module, _PASSING_ON):
            return
        read = _readable(output.shape, n_examples, size, current)
        if read is None:
            return
        reshape, grid = read
        if isinstance(module, _ADAPTIVE_POOLS):
            fixed = max(fixed, math.prod(grid))
        # Weights of attention, (B, heads, N, N), have more positions than tokens.
        if fixed < math.prod(grid) <= current:
            current = math.prod(grid)
            found.append(_Output(name, module, output, reshape))

    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            if name:
                hook = partial(note, name)
                handle = module.register_forward_hook(hook, with_kwargs=True)
                stack.enter_context(handle)
        output = output_tensor(model(*inputs))
    return found, token_blocks, output


def _image_size(inputs: Sequence[Tensor]) -> tuple[int, ...] | None:
    """Size of the first image or video among the inputs, (H, W) or (T, H, W)."""
    for each in inputs:
        if each.dim() in (4, 5):
            return tuple(each.shape[2:])
    return None


def _readable(
    shape: Sequence[int],
    n_examples: int,
    size: tuple[int, ...] | None,
    n_positions: float,
) -> tuple[ReshapeTransform | None, tuple[int, ...]] | None:
    """The transform that makes maps of a shape, and their size; None if none does."""
    n_axes = 2 + len(size) if size else 4
    if len(shape) == n_axes and shape[0] == n_examples:
        if size and keeps_channels_last(shape, size):
            return maps_of_channels_last, tuple(shape[1:-1])
        return None, tuple(shape[2:])
    if len(shape) != 3 or shape[2] == 1 or size is None:
        return None
    if len(size) == 3:
        _check_no_tokens(shape[1], n_positions)
        return None
    for axis, transform in ((0, maps_of_tokens), (1, maps_of_tokens_first)):
        if shape[axis] == n_examples:
            n = shape[1 - axis]
            for n_prefix in _numbers_of_prefix_tokens(n, n_positions):
                grid = token_grid(n - n_prefix, size)
                if grid is not None:
                    return partial(transform, n_prefix=n_prefix), grid
    return None


def _check_no_tokens(n: int, n_positions: float) -> None:
    """Raise an error if n can be the tokens of a video, whose grid is not known."""
    if n_positions <= n <= n_positions + MAX_PREFIX:
        raise ValueError(
            f"model must have maps (B, C, t, h, w) of video in its last layers, got "
            f"{n} tokens: give a layer method the layer and a reshape_transform that "
            f"rearranges them."
        )


def _numbers_of_prefix_tokens(n: int, n_positions: float) -> Iterator[int]:
    """Possible numbers of tokens before those of the image, the likeliest first."""
    if math.isinf(n_positions):
        yield from range(min(MAX_PREFIX + 1, n))
    else:
        # Registers are added once; a later stage with fewer tokens adds one at most.
        if n_positions <= n <= n_positions + MAX_PREFIX:
            yield n - int(n_positions)
        yield from range(min(2, n))


def _influential(
    found: Sequence[_Output], score: Tensor, size: tuple[int, ...] | None
) -> list[_Output]:
    """Outputs whose maps have a gradient; prefix tokens do not count."""
    with_graph = [each for each in found if each.tensor.requires_grad]
    if not with_graph or not score.requires_grad:
        return []
    gradients = torch.autograd.grad(
        score, [each.tensor for each in with_graph], allow_unused=True
    )
    return [
        each
        for each, gradient in zip(with_graph, gradients)
        if gradient is not None and sized(each.reshape, size)(gradient).any()
    ]


def _last_of_stage_before(
    outputs: Sequence[_Output], size: tuple[int, ...] | None
) -> _Output | None:
    """Last output with the next larger number of positions, a block if there is one.

    A block ends a stage; a layer after it may be inside the first block of the next
    stage, beside its skip connection. A module that is called twice has no one output.
    """

    def n_positions(output: _Output) -> int:
        return sized(output.reshape, size)(output.tensor.detach())[0, 0].numel()

    counts = [n_positions(each) for each in outputs]
    larger = [n for n in counts if n > counts[-1]]
    modules = [each.module for each in outputs]
    stage = [
        each
        for each, n in zip(outputs, counts)
        if n == min(larger, default=0) and modules.count(each.module) == 1
    ]
    blocks = [each for each in stage if each.is_block]
    found = blocks or stage
    return found[-1] if found else None


def _outside_of_last_blocks(
    outputs: Sequence[_Output], token_blocks: Sequence[str]
) -> list[_Output]:
    """Outputs without the tokens inside a block that returns no influential ones.

    Queries, keys and values of the last block have a gradient, but the block before is
    what they are computed from.
    """
    blocks = [each.name for each in outputs if each.is_block]
    last_blocks = [
        name
        for name in token_blocks
        if not any(other == name or other.startswith(f"{name}.") for other in blocks)
    ]
    return [
        each
        for each in outputs
        if not each.is_tokens
        or not any(each.name.startswith(f"{name}.") for name in last_blocks)
    ]
