"""Targets: functions of a model's output that return the number to explain.

An index selects a class score. Detectors, segmentation and embedding networks return
something else; for them a target is a function of the output that returns one number
per example. Every attribution and metric accepts it as ``target``. A list of functions
holds one for each example, which gets the output of its example alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ext._distances import euclidean_distance
from captum_ext._outputs import output_tensor
from captum_ext._type_checks import (
    check_callable,
    check_finite,
    check_numbers,
    check_tensor,
)
from captum_ext._validation import check_integer, check_positive

__all__ = [
    "DetectionTarget",
    "SegmentationTarget",
    "SimilarityTarget",
    "embedding_similarity",
]

#: Distances (B,) between embeddings (B, E) and a reference (1, E).
Distance = Callable[[Tensor, Tensor], Tensor]


class SegmentationTarget:
    """Sum of a class's scores over a mask, for models that score every pixel.

    Args:
        category (int): Class, an index along the class axis of the output.
        mask (Tensor): Pixels to sum over, (H, W) or (T, H, W) of the output's size,
            bool or weights; usually where the model predicts the class.

    Raises:
        ValueError: If the mask has no positive element or is not finite.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> model = nn.Conv2d(3, 5, 3, padding=1)  # scores (B, 5, H, W)
        >>> x = torch.rand(1, 3, 32, 32)
        >>> mask = model(x)[0].argmax(0) == 2
        >>> target = SegmentationTarget(2, mask)
        >>> PNRISE(model).attribute(x, target=target, n_masks=50).shape
        torch.Size([1, 3, 32, 32])
    """

    def __init__(self, category: int, mask: Tensor) -> None:
        self.category = check_integer("category", category, 0)
        check_tensor("mask", mask)
        if mask.dim() == 0 or not torch.isfinite(mask).all() or not (mask > 0).any():
            raise ValueError(
                f"mask must be finite with a positive pixel, got a tensor of shape "
                f"{tuple(mask.shape)} without one."
            )
        self.mask = mask

    def __call__(self, output: object) -> Tensor:
        """Sum over the mask.

        Args:
            output (object): Scores (B, classes, H, W), or (classes, H, W) of one
                example; or an object with them, such as torchvision's ``{"out": ...}``.

        Returns:
            *Tensor*: (B,), or one number.

        Raises:
            ValueError: If the scores do not fit the mask and the class.
        """
        # Torchvision's models return the scores of an auxiliary classifier as well.
        has_out = isinstance(output, Mapping) and "out" in output
        scores = output_tensor(output["out"] if has_out else output)  # type: ignore[index]
        size = self.mask.shape
        fits = scores.shape[-len(size) :] == size and scores.dim() - len(size) in (1, 2)
        if not fits or self.category >= scores.shape[-len(size) - 1]:
            raise ValueError(
                f"target must have a category and a mask of the output's size, got "
                f"category {self.category}, a mask of shape {tuple(size)} and an "
                f"output of shape {tuple(scores.shape)}."
            )
        scores = scores.select(-len(size) - 1, self.category)
        # A sum of many numbers may exceed the range of half precision.
        dtype = torch.promote_types(scores.dtype, torch.float32)
        weighted = scores * self.mask.to(scores)
        return weighted.sum(tuple(range(-len(size), 0)), dtype=dtype)


class DetectionTarget:
    r"""Score of a box, for detectors: how well any detection agrees with it.

    .. math::
        \max_j\, p_j\, \mathrm{IoU}(b, b_j)

    over the detections j of the label, with boxes b_j and probabilities p_j; 0 without
    any. It is 1 for a certain detection of exactly that box.

    Source: V. Petsiuk et al., Black-box Explanation of Object Detectors via Saliency
    Maps (D-RISE), CVPR 2021, Equations (3) and (4), for detectors that return the
    probability of one label per detection.

    Args:
        box (Tensor or sequence of float): x0 y0 x1 y1 in pixels of the input, (4,).
        label (int): Label of the box, as the detector numbers labels.

    Raises:
        ValueError: If the box is not finite or has no area.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> found = {
        ...     "boxes": torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 8.0, 4.0]]),
        ...     "labels": torch.tensor([3, 3]),
        ...     "scores": torch.tensor([0.2, 0.6]),
        ... }
        >>> DetectionTarget([0, 0, 4, 4], label=3)([found])
        tensor([0.3000])
    """

    def __init__(self, box: Tensor | Sequence[float], label: int) -> None:
        self.label = check_integer("label", label, 0)
        self.box = check_numbers("box", box, 4).float()
        if not (self.box[:2] < self.box[2:]).all():
            raise ValueError(
                f"box must be x0 y0 x1 y1 with x0 < x1 and y0 < y1, got "
                f"{self.box.tolist()}."
            )

    def __call__(self, output: Any) -> Tensor:
        """Score of the box.

        Args:
            output (list of dict): Detections of each example, as torchvision's models
                return them: ``boxes`` (N, 4), ``labels`` (N,) and ``scores`` (N,); or
                the dict of one example.

        Returns:
            *Tensor*: In [0, 1], (B,), or one number.

        Raises:
            ValueError: If the output holds no detections.
        """
        if isinstance(output, Mapping):
            return self._score(output)
        if not isinstance(output, (list, tuple)) or not output:
            raise _no_detections(output)
        return torch.stack([self._score(found) for found in output])

    def _score(self, found: object) -> Tensor:
        """Score of the box among the detections of one example."""
        from torchvision.ops import box_iou

        if not isinstance(found, Mapping) or not {*found} >= _DETECTIONS:
            raise _no_detections(found)
        boxes, scores = found["boxes"].reshape(-1, 4), found["scores"]
        overlap = box_iou(self.box.to(boxes)[None], boxes)[0]
        agreement = scores * overlap * (found["labels"] == self.label)
        return torch.cat([agreement, agreement.new_zeros(1)]).amax()


_DETECTIONS = {"boxes", "labels", "scores"}


def _no_detections(output: object) -> ValueError:
    return ValueError(
        f"forward_func must return a list of detections, mappings with boxes, labels "
        f"and scores, for a DetectionTarget, got {type(output).__name__}."
    )


def embedding_similarity(
    embedding: Tensor,
    reference: Tensor,
    scale: float | None = None,
    distance: Distance | None = None,
) -> Tensor:
    r"""Similarity of embeddings to a reference.

    The cosine, or :math:`\exp(-d(v_i, v) / d_0)` for a typical distance
    :math:`d_0`.

    Args:
        embedding (Tensor): Embeddings v_i, (B, E).
        reference (Tensor): Reference v, (1, E).
        scale (float, optional): Typical distance d_0. Default: None (the cosine)
        distance (Callable, optional): Distance d (B,) between embeddings (B, E) and the
            reference (1, E). Default: None (Euclidean)

    Returns:
        *Tensor*: (B,), from -1 to 1, or in (0, 1] if there is a scale.

    Raises:
        ValueError: If embeddings do not have the size of the reference, or there is not
            one distance each.

    Examples::

        >>> v = torch.tensor([[3.0, 4.0]])
        >>> embedding_similarity(v, torch.tensor([[0.0, 1.0]]))
        tensor([0.8000])
        >>> embedding_similarity(v, torch.zeros(1, 2), scale=5.0)
        tensor([0.3679])
    """
    check_tensor("embedding", embedding)
    check_tensor("reference", reference)
    if distance is not None:
        check_callable("distance", distance)
    if reference.dim() != 2 or len(reference) != 1:
        raise ValueError(
            f"reference must have shape (1, E), got {tuple(reference.shape)}."
        )
    if embedding.dim() != 2 or embedding.shape[1] != reference.shape[1]:
        raise ValueError(
            f"embedding, the output of forward_func, must be embeddings "
            f"(B, {reference.shape[1]}), as many numbers as the reference, got shape "
            f"{tuple(embedding.shape)}."
        )
    check_finite("embedding", embedding)
    reference = reference.to(embedding)
    if scale is None:
        return F.cosine_similarity(embedding, reference)
    scale = check_positive("scale", scale)
    d = (distance or euclidean_distance)(embedding, reference)
    if not isinstance(d, Tensor) or d.shape != embedding.shape[:1]:
        got = tuple(d.shape) if isinstance(d, Tensor) else type(d).__name__
        raise ValueError(
            f"distance must return one number for each of the {len(embedding)} "
            f"embeddings, (B,), got {got}."
        )
    return torch.exp(-check_finite("distance", d) / scale)


def _check_reference(reference: Tensor, scale: float | None) -> Tensor:
    """The reference as (1, E); refuse one that no embedding can be compared with.

    Args:
        reference (Tensor): Embedding (E,) or (1, E).
        scale (float, optional): Typical distance, above 0.

    Returns:
        *Tensor*: (1, E).

    Raises:
        ValueError: If the reference is not one finite embedding, or ``scale`` is not
            positive.
        TypeError: If an argument is of the wrong type.
    """
    check_tensor("reference", reference, "a floating point tensor")
    if not reference.is_floating_point():
        raise TypeError(
            f"reference must be a floating point tensor, got {reference.dtype}."
        )
    row = torch.atleast_2d(reference.detach())
    fits = row.dim() == 2 and len(row) == 1 and row.numel() > 0
    if not fits or not torch.isfinite(row).all():
        raise ValueError(
            f"reference must be one finite embedding (E,) or (1, E), got shape "
            f"{tuple(reference.shape)}."
        )
    if scale is not None:
        check_positive("scale", scale)
    elif not row.any():
        raise ValueError("reference must not be zero for the cosine, got zeros.")
    return row


class SimilarityTarget:
    r"""Similarity of an embedding to a reference, such as a text feature of CLIP.

    The cosine, or :math:`\exp(-d(v_i, v) / d_0)` for a scale d_0
    (:func:`embedding_similarity`).

    Args:
        reference (Tensor): Embedding of the match or of a text, (E,) or (1, E).
        scale (float, optional): Typical distance d_0. Default: None (the cosine)
        distance (Callable, optional): Distance (B,) between embeddings (B, E) and the
            reference (1, E), if there is a scale. Default: None (Euclidean)

    Raises:
        ValueError: If the reference is not one finite embedding, ``scale`` is not
            positive, or ``distance`` is given without it.
        TypeError: If an argument is of the wrong type.

    Examples::

        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8))
        >>> target = SimilarityTarget(torch.randn(8))
        >>> x = torch.rand(2, 3, 32, 32)
        >>> PNRISE(network).attribute(x, target=target, n_masks=50).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        reference: Tensor,
        scale: float | None = None,
        distance: Distance | None = None,
    ) -> None:
        self.reference = _check_reference(reference, scale)
        if distance is not None and scale is None:
            raise ValueError("scale must be given with a distance, got none.")
        if distance is not None:
            check_callable("distance", distance)
        self.scale, self.distance = scale, distance

    def __call__(self, output: object) -> Tensor:
        """Similarity of each embedding.

        Args:
            output (object): Embeddings (B, E), or (E,) of one example; or an object
                with them.

        Returns:
            *Tensor*: (B,), or one number.

        Raises:
            ValueError: If embeddings do not have the size of the reference.
        """
        embedding = output_tensor(output)
        similarity = embedding_similarity(
            torch.atleast_2d(embedding), self.reference, self.scale, self.distance
        )
        return similarity.reshape(embedding.shape[:-1])
