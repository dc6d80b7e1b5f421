"""Maps of one image: each computed once and kept as an array."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from captum_ext._files import replacing
from captum_ext.methods.attribution_classes import seeded_globally
from captum_ext.methods.specs import Spec, find_method
from captum_ext.subject import Subject

__all__ = ["ImageMaps", "read_map"]


class ImageMaps:
    """Maps of an image by the specs of their methods.

    A map is computed once, even if it is the prior of others. Maps with a file are
    written to it, and read from it the next time: metrics that are added to a run need
    no new explanations. Half precision would need half of the space, but pixels whose
    values become equal change the metrics that rank pixels.

    Args:
        subject (Subject): Image, target and settings of methods.
        files (Mapping[str, Path]): Files by the keys of specs, see :meth:`key`.
        defaults (Mapping[str, object]): Arguments of methods that accept them, unless
            the spec gives others.
    """

    def __init__(
        self,
        subject: Subject,
        files: Mapping[str, Path],
        defaults: Mapping[str, object],
    ) -> None:
        self._subject, self._files, self._defaults = subject, files, defaults
        self._found: dict[str, tuple[Tensor, float]] = {}

    @staticmethod
    def key(spec: Spec) -> str:
        """Text that is the same for equal specs only."""
        return json.dumps(spec.describe())

    def __call__(self, spec: Spec) -> tuple[Tensor, float]:
        """Map (1, any, H, W) on the CPU, and seconds of it and of its prior."""
        key = self.key(spec)
        if key not in self._found:
            file = self._files.get(key)
            found = None if file is None else _read(file)
            if found is None:
                found = self._compute(spec)
                if file is not None:
                    _write(file, *found)
            self._found[key] = found
        return self._found[key]

    def _compute(self, spec: Spec) -> tuple[Tensor, float]:
        method, prior_seconds = find_method(spec.use), 0.0
        options = spec.completed(self._defaults, method.options())
        prior = options.get("prior")
        if isinstance(prior, Spec):
            options["prior"], prior_seconds = self(prior)
        start = time.perf_counter()
        with seeded_globally(self._subject.seed, self._subject.inputs.device):
            maps = method.attribute(self._subject, **options).cpu()
        return maps, prior_seconds + time.perf_counter() - start


def read_map(file: Path) -> Tensor:
    """Read a map that a run has kept.

    Args:
        file (Path): File in the folder ``maps`` of a run that ends in .npz.

    Returns:
        *Tensor*: Map (1, any, H, W).

    Raises:
        ValueError: If it is not such a file.

    Examples::

        >>> read_map(Path("out/maps/scene-0/grad-cam.npz")).shape  # doctest: +SKIP
        torch.Size([1, 1, 96, 96])
    """
    found = _read(file)
    if found is None:
        raise ValueError(f"file must be the map of a run, got {str(file)!r}.")
    return found[0]


def _write(file: Path, maps: Tensor, seconds: float) -> None:
    """Write a map; channels that are all equal are written once."""
    n_channels = maps.shape[1]
    if torch.equal(maps, maps[:, :1].expand_as(maps)):
        maps = maps[:, :1]
    with replacing(file) as buffer:
        np.savez_compressed(
            buffer, map=maps.numpy(), n_channels=n_channels, seconds=seconds
        )


def _read(file: Path) -> tuple[Tensor, float] | None:
    """Map and seconds of a file; None if it is missing or damaged."""
    try:
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            maps = torch.from_numpy(stored["map"])
            shape = (-1, int(stored["n_channels"]), -1, -1)
            return maps.expand(shape).contiguous(), float(stored["seconds"])
    except (OSError, KeyError, ValueError, TypeError, EOFError, BadZipFile):
        return None
