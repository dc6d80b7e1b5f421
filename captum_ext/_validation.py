"""The one place where arguments are checked, before any forward pass is spent.

Every message names the argument, says what came and what was expected.
"""

import difflib
import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import torch
from torch import Tensor, nn

from captum_ext._captum import BaselineType, TargetType

if TYPE_CHECKING:
    from captum_ext.masking import MaskingNetwork

__all__ = [
    "check_attributions",
    "check_baselines",
    "check_channels_first",
    "check_choice",
    "check_classes",
    "check_colors",
    "check_decoder_channels",
    "check_example_scores",
    "check_feature_mask",
    "check_finite_scores",
    "check_grid_size",
    "check_input_shaped",
    "check_inputs",
    "check_integer",
    "check_layer_maps",
    "check_layer_name",
    "check_layer_was_reached",
    "check_mask_probabilities",
    "check_masking_network",
    "check_not_negative",
    "check_output_type",
    "check_perturbations_per_eval",
    "check_image",
    "check_positive",
    "check_prior",
    "check_probabilities",
    "check_probability",
    "check_range",
    "check_same_outputs",
    "check_scores",
    "check_shared_by_channels",
    "check_sizes",
    "check_target",
    "check_windowed_inputs",
    "check_windows",
]


def check_inputs(inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Inputs as a tuple of tensors with one batch size and finite numbers."""
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"inputs must be a tensor or a tuple of tensors, got "
                f"{type(tensor).__name__}."
            )
        if tensor.dim() == 0 or tensor.numel() == 0:
            raise ValueError(
                f"inputs must hold at least one example, got a tensor of shape "
                f"{tuple(tensor.shape)}."
            )
        n_bad = int((~torch.isfinite(tensor)).sum())
        if n_bad:
            raise ValueError(
                f"inputs must be finite, got {n_bad} NaN or infinite values among "
                f"{tensor.numel()}."
            )
    sizes = {len(tensor) for tensor in tensors}
    if len(sizes) != 1:
        raise ValueError(
            f"inputs must be tensors of one batch size, got {sorted(sizes)} examples."
        )
    return tensors


def check_baselines(
    baselines: BaselineType, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Baselines as one tensor an input, broadcastable, in its dtype and device."""
    if baselines is None:
        baselines = (0,) * len(inputs)
    formatted = []
    for baseline, tensor in zip(_one_each("baselines", baselines, inputs), inputs):
        if not isinstance(baseline, (Tensor, int, float)):
            raise TypeError(
                f"baselines must be numbers, tensors or None, got "
                f"{type(baseline).__name__}."
            )
        value = torch.as_tensor(baseline, device=tensor.device)
        if value.is_floating_point() and not tensor.is_floating_point():
            raise ValueError(
                f"baselines must be integers for inputs of {tensor.dtype}, got "
                f"{value.dtype}."
            )
        value = value.to(tensor.dtype)
        if not _broadcasts(value.shape, tensor.shape):
            raise ValueError(
                f"baselines must broadcast to inputs of shape {tuple(tensor.shape)}, "
                f"got shape {tuple(value.shape)}."
            )
        if not torch.isfinite(value).all():
            raise ValueError("baselines must be finite, got NaN or infinite values.")
        formatted.append(value)
    return tuple(formatted)


def _one_each(name: str, values: Any, inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """Values as a tuple with one entry for each input."""
    entries = values if isinstance(values, tuple) else (values,)
    if len(entries) != len(inputs):
        raise ValueError(
            f"{name} must hold one entry for each of the {len(inputs)} inputs, got "
            f"{len(entries)}."
        )
    return entries


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    try:
        return torch.broadcast_shapes(shape, to) == torch.Size(to)
    except RuntimeError:
        return False


def check_target(target: TargetType, n_examples: int) -> None:
    """Refuse a target of no known form, or with another number of examples."""
    if isinstance(target, bool) or not (
        target is None or isinstance(target, (int, tuple, list, Tensor))
    ):
        raise TypeError(
            f"target must be an int, tuple, tensor or list, got "
            f"{type(target).__name__}."
        )
    if target is None or isinstance(target, (int, tuple)):
        return
    n_targets = target.numel() if isinstance(target, Tensor) else len(target)
    single = isinstance(target, Tensor) and n_targets == 1
    if not single and n_targets != n_examples:
        raise ValueError(
            f"target must hold one index for each of the {n_examples} examples, got "
            f"{n_targets}."
        )


def check_classes(target: TargetType, n_examples: int, n_classes: int) -> Tensor:
    """Targets of a network that takes classes, one an example, as integers (B,)."""
    check_target(target, n_examples)
    entries = target if isinstance(target, list) else [target]
    if isinstance(target, Tensor):
        entries = target.flatten().tolist()
    single = [e[0] if isinstance(e, tuple) and len(e) == 1 else e for e in entries]
    for entry in single:
        if not isinstance(entry, int) or not 0 <= entry < n_classes:
            raise ValueError(
                f"target must be a class from 0 to {n_classes - 1} for each example, "
                f"got {entry!r}."
            )
    return torch.tensor(single).expand(n_examples)


def check_probability(name: str, value: float) -> None:
    """Refuse what is not strictly between 0 and 1."""
    if not 0 < _number(name, value) < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value}.")


def check_positive(name: str, value: float) -> None:
    """Refuse what is not a finite positive number."""
    if not 0 < _number(name, value) < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value}.")


def check_not_negative(name: str, value: float) -> None:
    """Refuse what is not a finite number of at least 0."""
    if not 0 <= _number(name, value) < math.inf:
        raise ValueError(f"{name} must be a number of at least 0, got {value}.")


def _number(name: str, value: float) -> float:
    try:
        return float(operator.mul(value, 1.0))
    except TypeError:
        raise TypeError(
            f"{name} must be a number, got {type(value).__name__}."
        ) from None


def check_integer(
    name: str, value: SupportsIndex, least: int, most: int | None = None
) -> int:
    """The value as an int; refuse what is none or lies out of range."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {type(value).__name__}.") from None
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got bool.")
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}.")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, got {number}.")
    return number


def check_channels_first(name: str, x: Tensor, n_channels: int) -> None:
    """Refuse what is no floating point image, video or color without a batch."""
    if not x.is_floating_point() or x.shape[:1] != (n_channels,):
        raise ValueError(
            f"{name} must be floating point with its {n_channels} channels first, got "
            f"{x.dtype} of shape {tuple(x.shape)}."
        )


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a name that is not among the choices."""
    if value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}."
        )


def check_perturbations_per_eval(
    value: int | Literal["auto"],
) -> int | Literal["auto"]:
    """The value as an int, or "auto"; refuse what is neither."""
    if isinstance(value, str):
        check_choice("perturbations_per_eval", value, ("auto",))
        return "auto"
    return check_integer("perturbations_per_eval", value, 1)


def check_feature_mask(
    feature_mask: Tensor | tuple[Tensor, ...] | None, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...] | None:
    """Integer regions (1 or B, ...) with as many axes as their input, if any."""
    if feature_mask is None:
        return None
    formatted = []
    for mask, tensor in zip(_one_each("feature_mask", feature_mask, inputs), inputs):
        if not isinstance(mask, Tensor) or mask.is_floating_point():
            got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise TypeError(f"feature_mask must hold integer tensors, got {got}.")
        if not _broadcasts(mask.shape, tensor.shape):
            raise ValueError(
                f"feature_mask must broadcast to inputs of shape "
                f"{tuple(tensor.shape)}, got shape {tuple(mask.shape)}."
            )
        missing = tensor.dim() - mask.dim()
        formatted.append(mask.reshape(*(1,) * missing, *mask.shape))
    return tuple(formatted)


def check_shared_by_channels(
    feature_mask: Tensor | tuple[Tensor, ...] | None, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...] | None:
    """Regions (1 or B, 1, ...); refuse any that differ between a pixel's channels."""
    masks = check_feature_mask(feature_mask, inputs)
    if masks is None:
        return None
    shared = []
    for regions, tensor in zip(masks, inputs):
        if tensor.dim() > 2:
            if not torch.equal(regions, regions[:, :1].expand_as(regions)):
                raise ValueError(
                    "feature_mask must be the same for all channels of a pixel, got "
                    "channels that differ."
                )
            regions = regions[:, :1]
        shared.append(regions)
    return tuple(shared)


def check_colors(
    colors: Tensor | tuple[Tensor, ...], inputs: tuple[Tensor, ...]
) -> list[list[Tensor]]:
    """The K colors of each input, broadcastable to it, in its dtype and device."""
    formatted = []
    for palette, tensor in zip(_one_each("colors", colors, inputs), inputs):
        if not isinstance(palette, Tensor):
            raise TypeError(
                f"colors must be a tensor or a palette, got {type(palette).__name__}."
            )
        width = tensor.shape[1] if tensor.dim() > 2 else 1
        each = palette.dim() == 3 and len(palette) in (1, len(tensor))
        if palette.shape[-1:] != (width,) or not (palette.dim() == 2 or each):
            raise ValueError(
                f"colors must have shape (K, {width}) or ({len(tensor)}, K, {width}) "
                f"for inputs of shape {tuple(tensor.shape)}, got "
                f"{tuple(palette.shape)}."
            )
        if palette.shape[-2] == 0 or not torch.isfinite(palette).all():
            raise ValueError(
                f"colors must hold at least one color and finite numbers, got "
                f"{palette.tolist()}."
            )
        trailing = (1,) * (tensor.dim() - 2)
        palette = palette.to(tensor).reshape(*palette.shape, *trailing)
        formatted.append(list(palette.unbind(-2 - len(trailing))))
    if len({len(fills) for fills in formatted}) != 1:
        raise ValueError(
            f"colors must hold the same number for all inputs, got "
            f"{[len(fills) for fills in formatted]}."
        )
    return formatted


def check_grid_size(
    grid_size: int | Sequence[int] | None, inputs: tuple[Tensor, ...], default: int
) -> list[tuple[int, ...] | None]:
    """For each input the cells along each axis behind the channels, None for tables."""
    sizes = [tuple(tensor.shape[2:]) for tensor in inputs]
    if grid_size is not None and not any(sizes):
        raise ValueError(
            f"grid_size needs inputs with channels and a further axis, got inputs of "
            f"shape {tuple(inputs[0].shape)}."
        )
    grids: list[tuple[int, ...] | None] = []
    for tensor, size in zip(inputs, sizes):
        if size and not tensor.is_floating_point():
            raise TypeError(
                f"inputs must be floating point to be blended by a grid, got "
                f"{tensor.dtype}; give feature_mask to replace whole regions."
            )
        if grid_size is None:
            grids.append(tuple(min(default, n) for n in size) or None)
        else:
            grids.append(_grid_of(grid_size, size) if size else None)
    return grids


def _grid_of(grid_size: int | Sequence[int], size: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(grid_size, Sequence):
        entries = list(grid_size)
    else:
        entries = [check_integer("grid_size", grid_size, 1)] * len(size)
    if len(entries) != len(size):
        raise ValueError(
            f"grid_size must be an int or {len(size)} ints for {size} pixels, got "
            f"{grid_size}."
        )
    grid = tuple(check_integer("grid_size", cells, 1) for cells in entries)
    if any(cells > pixels for cells, pixels in zip(grid, size)):
        raise ValueError(
            f"grid_size must not exceed the input's {size} pixels, got {grid_size}."
        )
    return grid


def check_scores(scores: Tensor) -> None:
    """Refuse scores (M, B) with NaN or infinite values, saying for how many masks."""
    n_bad = int((~torch.isfinite(scores)).any(dim=1).sum())
    if n_bad:
        raise ValueError(
            f"forward_func must return finite scores, got NaN or infinity for {n_bad} "
            f"of {len(scores)} masks."
        )


def check_example_scores(
    scores: Tensor, n_examples: int, output_shape: Sequence[int]
) -> Tensor:
    """Scores as (B,); refuse another number than one an example, NaN and infinity."""
    if scores.numel() != n_examples:
        raise ValueError(
            f"forward_func and target must give one number for each of the "
            f"{n_examples} examples, got an output of shape {tuple(output_shape)}."
        )
    if not scores.requires_grad:
        raise ValueError(
            "layer must have an influence on the score that can be differentiated, "
            "got a score without a gradient."
        )
    n_bad = int((~torch.isfinite(scores.detach())).sum())
    if n_bad:
        raise ValueError(
            f"forward_func must return finite scores, got NaN or infinity for {n_bad} "
            f"of {n_examples} examples."
        )
    return scores.flatten()


def check_input_shaped(maps: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> Tensor:
    """The one map (B, 1, ...) that can be brought into the shape of the one input."""
    shapes = [tuple(each.shape) for each in (*maps, *inputs)]
    fits = len(shapes) == 2 and len(shapes[0]) == len(shapes[1]) in (3, 4, 5)
    if not fits or shapes[0][:2] != (shapes[1][0], 1):
        raise ValueError(
            f"input_shaped must be False unless one map (B, 1, ...) has as many axes "
            f"as the one input, got shapes {', '.join(map(str, shapes))}."
        )
    return maps[0]


def check_layer_was_reached(layer: object, reached: bool) -> None:
    """Refuse a layer that the forward pass did not go through."""
    if not reached:
        raise ValueError(
            f"layer must be a part of forward_func that its forward pass goes "
            f"through, got {type(layer).__name__}, which was not called."
        )


def check_layer_maps(tensors: tuple[Tensor, ...], n_examples: int) -> None:
    """Refuse what is not one tensor of maps (B, C, h, w)."""
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][0] != n_examples:
        raise ValueError(
            f"layer must give one tensor of maps ({n_examples}, C, h, w), got "
            f"{', '.join(map(str, shapes))}; reshape_transform brings other shapes "
            f"into this one."
        )


def check_image(inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The one tensor of images (B, C, H, W) that inputs hold."""
    tensors = check_inputs(inputs)
    if len(tensors) != 1 or tensors[0].dim() != 4:
        raise ValueError(
            f"inputs must be one tensor of images (B, C, H, W), got "
            f"{', '.join(str(tuple(t.shape)) for t in tensors)}; give what else the "
            f"model takes as additional_forward_args."
        )
    if not tensors[0].is_floating_point():
        raise TypeError(
            f"inputs must be floating point to be resized, got {tensors[0].dtype}."
        )
    return tensors[0]


def check_same_outputs(outputs: Sequence[Tensor]) -> None:
    """Refuse outputs whose shape follows the size of the image."""
    shapes = list(dict.fromkeys(tuple(output.shape) for output in outputs))
    if len(shapes) != 1:
        raise ValueError(
            f"forward_func must return outputs of one shape at all sizes, got "
            f"{', '.join(map(str, shapes))}."
        )


def check_sizes(
    name: str, sizes: Sequence[int | Sequence[int]], size: Sequence[int]
) -> list[tuple[int, int]]:
    """Heights and widths in pixels; an int is the longer side of an image's shape."""
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        raise TypeError(
            f"{name} must be a sequence of sizes, got {type(sizes).__name__}."
        )
    checked = []
    for entry in sizes:
        if isinstance(entry, Sequence) and not isinstance(entry, str):
            if len(entry) != 2:
                raise ValueError(f"{name} must be a height and a width, got {entry}.")
            height, width = (check_integer(name, n, 1) for n in entry)
        else:
            longer = check_integer(name, entry, 1)
            height, width = (max(1, round(longer * n / max(size))) for n in size)
        checked.append((height, width))
    return checked


def check_output_type(output: object) -> Tensor:
    """The output of a forward function as a tensor; refuse what holds no numbers."""
    try:
        return torch.as_tensor(output)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"forward_func must return a tensor or a number, got "
            f"{type(output).__name__}."
        ) from None


def check_range(maps: Tensor, dtype: torch.dtype) -> Tensor:
    """Maps in another dtype; refuse values that it cannot hold."""
    cast = maps.to(dtype)
    if not torch.isfinite(cast).all():
        raise ValueError(
            f"forward_func must return scores whose maps fit into {dtype}, got "
            f"values up to {float(maps.abs().max()):.3g}."
        )
    return cast


_INPUT_SHAPES = {3: "(B, C, L)", 4: "(B, C, H, W)", 5: "(B, C, T, H, W)"}


def check_attributions(
    maps: Tensor | tuple[Tensor, ...], inputs: Tensor, name: str = "attributions"
) -> Tensor:
    """One finite map an example, with as many axes as the input."""
    if isinstance(maps, tuple) and len(maps) == 1:
        maps = maps[0]
    if not isinstance(maps, Tensor):
        raise TypeError(
            f"{name} must be one tensor or a tuple of one, got {type(maps).__name__}."
        )
    if maps.dim() != inputs.dim() or len(maps) != len(inputs) or not maps.numel():
        raise ValueError(
            f"{name} must have {inputs.dim()} axes and {len(inputs)} maps for "
            f"inputs of shape {tuple(inputs.shape)}, got shape {tuple(maps.shape)}."
        )
    n_bad = int((~torch.isfinite(maps)).sum())
    if n_bad:
        raise ValueError(
            f"{name} must be finite, got {n_bad} NaN or infinite values among "
            f"{maps.numel()}."
        )
    return maps.detach()


def check_windowed_inputs(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Inputs that one window can hide: images or video, all of one size."""
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len({shape[2:] for shape in shapes}) != 1 or len(shapes[0]) not in (4, 5):
        raise ValueError(
            f"inputs must be {_INPUT_SHAPES[4]} or {_INPUT_SHAPES[5]}, all of one "
            f"size, got {', '.join(map(str, shapes))}; give what else the model takes "
            f"as additional_forward_args."
        )
    return tensors


def check_windows(
    mask_sizes: Sequence[int] | None,
    durations: Sequence[int] | None,
    size: Sequence[int],
    default_sizes: Sequence[float],
    default_durations: Sequence[float],
) -> tuple[list[int], list[int]]:
    """Sides in pixels and numbers of frames; defaults are shares of the image.

    There are no frames unless ``size`` is (T, H, W).
    """
    if durations is not None and len(size) < 3:
        raise ValueError(
            f"durations must be None unless inputs are video {_INPUT_SHAPES[5]}, got "
            f"{durations}."
        )
    sides = _lengths("mask_sizes", mask_sizes, default_sizes, min(size[-2:]))
    if len(size) < 3:
        return sides, []
    return sides, _lengths("durations", durations, default_durations, size[0])


def _lengths(
    name: str, values: Sequence[int] | None, default: Sequence[float], most: int
) -> list[int]:
    """Lengths of at most so many pixels or frames, without repetitions."""
    if values is None:
        values = [max(1, round(share * most)) for share in default]
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise TypeError(
            f"{name} must be a sequence of ints, got {type(values).__name__}."
        )
    if not values:
        raise ValueError(f"{name} must hold at least one number, got none.")
    return list(dict.fromkeys(check_integer(name, v, 1, most) for v in values))


def check_prior(
    prior: Tensor | tuple[Tensor, ...] | None, inputs: Tensor
) -> tuple[Tensor, ...]:
    """Finite maps, one an example, with as many axes as the input; none for None."""
    if prior is None:
        return ()
    maps = prior if isinstance(prior, tuple) else (prior,)
    return tuple(check_attributions(each, inputs, "prior") for each in maps)


def check_finite_scores(scores: Tensor) -> None:
    """Refuse NaN and infinite scores."""
    n_bad = int((~torch.isfinite(scores)).sum())
    if n_bad:
        raise ValueError(
            f"forward_func must return finite scores, got NaN or infinity for {n_bad} "
            f"of {scores.numel()} examples."
        )


def check_probabilities(scores: Tensor) -> None:
    """Refuse scores that are not finite numbers in [0, 1]."""
    check_finite_scores(scores)
    # A softmax in half precision may exceed 1 by its rounding.
    if not ((scores >= -1e-3) & (scores <= 1 + 1e-3)).all():
        raise ValueError(
            f"forward_func must return probabilities, got scores from "
            f"{float(scores.min()):.3g} to {float(scores.max()):.3g}."
        )


def check_mask_probabilities(scores: Tensor, n_examples: int) -> None:
    """Refuse scores of two images an example but probabilities with a gradient."""
    if scores.numel() != 2 * n_examples:
        raise ValueError(
            f"forward_func and target must give one number for each of the "
            f"{2 * n_examples} examples, got {scores.numel()}."
        )
    if not scores.requires_grad:
        raise ValueError(
            "forward_func must return scores that can be differentiated, got scores "
            "without a gradient."
        )
    check_probabilities(scores.detach())


def check_layer_name(argument: str, name: str, model: nn.Module) -> nn.Module:
    """The part of the model that has the name."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        known = [path for path, _ in model.named_modules() if path]
        similar = difflib.get_close_matches(name, known, 3) or known[-3:]
        raise ValueError(
            f"{argument} must be a part of the model such as {', '.join(similar)}, got "
            f"{name!r}."
        ) from None


def check_decoder_channels(channels: Sequence[int], n_blocks: int) -> tuple[int, ...]:
    """A number of channels for each upsampling block of a masking network."""
    if not isinstance(channels, Sequence) or len(channels) != n_blocks:
        raise ValueError(
            f"decoder_channels must be {n_blocks} integers for this encoder, one for "
            f"each upsampling block, got {channels!r}."
        )
    return tuple(check_integer("decoder_channels", n, 1) for n in channels)


def check_masking_network(
    network: "MaskingNetwork | None", n_classes: int, needed: bool
) -> None:
    """A network that has learned the classes of the model, if it is needed."""
    if network is None and needed:
        raise ValueError("masking_network must be given for masking-model, got none.")
    if network is not None and network.n_classes != n_classes:
        raise ValueError(
            f"masking_network must have as many classes as the model, {n_classes}, "
            f"got {network.n_classes}."
        )
