"""Base class of RISE, PN-RISE and MC-RISE: maps from the scores of random masks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor

from captum_ext._captum import (
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_additional_forward_args,
    format_output,
    format_tensor_into_tuples,
    is_tuple,
)
from captum_ext._progress import progress
from captum_ext._scores import ChunkedScores, PerturbationsPerEval
from captum_ext._type_checks import check_flags
from captum_ext._validation import check_perturbations_per_eval
from captum_ext.attr.field_run import FieldRun
from captum_ext.attr.masked_run import Maps, MaskedRun, Run, Sampling
from captum_ext.masks import MaskLayout, RegionLayout

__all__ = [
    "Attribution",
    "Attributions",
    "MaskedInputs",
    "RandomMaskAttribution",
    "expanded_as",
    "stored_as",
]

Attribution = Tensor | tuple[Tensor, ...]
Attributions = Attribution | tuple[Attribution, Attribution]


class MaskedInputs(NamedTuple):
    """Inputs, what replaces their hidden parts, and the output to explain.

    Args:
        inputs (tuple[Tensor, ...]): Inputs (B, ...).
        fills (sequence of sequence of Tensor): The K fills of each input, each
            broadcastable to it.
        target (int, tuple, Tensor, list, or Callable, optional): Output to explain.
        additional_forward_args (Any): Further arguments of the forward function.
        prior (Tensor, optional): Prior maps (B, ...) of a field, of the size of the
            inputs. Default: None
    """

    inputs: tuple[Tensor, ...]
    fills: Sequence[Sequence[Tensor]]
    target: TargetType
    additional_forward_args: object
    prior: Tensor | None = None

    def example(self, i: int) -> "MaskedInputs":
        """Example i as a batch of one."""
        target = self.target
        args = format_additional_forward_args(self.additional_forward_args)
        return MaskedInputs(
            tuple(tensor[i : i + 1] for tensor in self.inputs),
            [
                [_example(fill, i) if fill.dim() == x.dim() else fill for fill in each]
                for each, x in zip(self.fills, self.inputs)
            ],
            [target[i]] if isinstance(target, list) else _example(target, i),
            args and tuple(_example(value, i) for value in args),
            None if self.prior is None else self.prior[i : i + 1],
        )


class RandomMaskAttribution(PerturbationAttribution):
    """Maps that are linear in the mean score of each category of a random mask.

    A subclass implements :meth:`_contrast`, which turns the conditional means into its
    maps, and overrides :meth:`_shape` if its output is not in the shape of the inputs.
    It has a constructor of its own, since Python names the class of the constructor in
    the error of an unknown keyword.
    """

    name: str

    def get_name(self) -> str:
        """Name of the method as in its paper."""
        return self.name

    def _contrast(self, means: Tensor) -> Tensor:
        """Maps (R, ...) as a linear function of the conditional means (K + 1, ...)."""
        raise NotImplementedError

    def _shape(self, maps: Tensor, tensor: Tensor) -> Tensor:
        """Attributions to an input (B, ...) from its maps (R, B, ...)."""
        return expanded_as(maps, tensor)

    def _n_elements(self, tensor: Tensor) -> int:
        """Number of elements of a map of an example of an input (B, ...)."""
        return tensor[0].numel()

    def _estimate(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        masked: MaskedInputs,
        layouts: Sequence[MaskLayout],
        sampling: Sampling,
        perturbations_per_eval: PerturbationsPerEval,
        show_progress: bool,
    ) -> Attributions:
        """Attributions, and their standard errors if these are to be returned.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): Inputs as the caller passed them.
            masked (MaskedInputs): The same inputs with fills and target.
            layouts (sequence of MaskLayout): One for the batch or one per example.
            sampling (Sampling): How masks are drawn.
            perturbations_per_eval (int or "auto"): Masked batches per forward call.
            show_progress (bool): Whether a progress bar is shown.
        """
        n_examples = len(masked.inputs[0])
        check_flags(show_progress=show_progress)
        chunk = check_perturbations_per_eval(perturbations_per_eval)
        batches = [masked]
        if len(layouts) > 1:
            batches = [masked.example(i) for i in range(n_examples)]
        runs = [
            self._run(batch, layout, sampling, chunk, show_progress)
            for batch, layout in zip(batches, layouts)
        ]
        values = self._joined(inputs, [run.values for run in runs])
        if not sampling.return_std_error:
            return values
        return values, self._joined(inputs, [run.errors for run in runs])

    def _joined(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        parts: Sequence[tuple[Tensor, ...]],
    ) -> Attribution:
        """Attributions to inputs from the maps of their batches."""
        shaped = tuple(
            self._shape(torch.cat(maps, dim=1), tensor)
            for maps, tensor in zip(zip(*parts), format_tensor_into_tuples(inputs))
        )
        return format_output(is_tuple(inputs), shaped)

    def _run(
        self,
        masked: MaskedInputs,
        layout: MaskLayout,
        sampling: Sampling,
        perturbations_per_eval: PerturbationsPerEval,
        show_progress: bool,
    ) -> Maps:
        """Maps of one batch under the masks of one layout."""
        inputs, fills, target, args, prior = masked
        score = ChunkedScores(
            self.forward_func, len(inputs[0]), target, args, perturbations_per_eval
        )
        run: Run
        if isinstance(layout, RegionLayout) and sampling.estimator == "field":
            counts = [self._n_elements(x) for x in inputs]
            run = FieldRun(
                layout, sampling, inputs, fills, score, self._contrast, counts, prior
            )
        else:
            run = MaskedRun(layout, sampling, inputs, fills, score, self._contrast)
        name, total = f"{self.get_name()} masks", sampling.n_masks
        with progress(desc=name, total=total, show=show_progress) as bar:
            return run.maps(bar.update)


def _example(value: Any, i: int) -> Any:
    """Example i of a tensor over the batch; any other value is shared by all."""
    if isinstance(value, Tensor) and value.dim() and len(value) > 1:
        return value[i : i + 1]
    return value


def expanded_as(maps: Tensor, tensor: Tensor) -> Tensor:
    """One map per example, (1, B, ...), in the shape, dtype and device of an input."""
    shared = stored_as(maps[0], tensor)
    return shared.expand(len(shared), *tensor.shape[1:]).contiguous()


def stored_as(maps: Tensor, tensor: Tensor) -> Tensor:
    """Maps on the device and in the dtype of an input, float32 for integers."""
    dtype = tensor.dtype if tensor.is_floating_point() else torch.float32
    # Maps are float64 on the CPU; some devices do not support that type.
    return _check_range(maps, dtype).to(tensor.device)


def _check_range(maps: Tensor, dtype: torch.dtype) -> Tensor:
    """Maps in another dtype, checked to hold their values."""
    cast = maps.to(dtype)
    if not torch.isfinite(cast).all():
        raise ValueError(
            f"forward_func must return scores whose maps fit into {dtype}, got "
            f"values up to {float(maps.abs().max()):.3g}."
        )
    return cast
