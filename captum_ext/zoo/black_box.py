"""Functions of NumPy images as modules: a limit of passes, retries and a cache."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_ext._files import replacing
from captum_ext._type_checks import check_callable
from captum_ext._validation import check_integer, check_not_negative

__all__ = ["BlackBox", "BlackBoxError", "check_inside"]

_NO_INSIDE = (
    "model must have layers or gradients here, got a black box, which is only called: "
    "use pn-rise (PNRISE), borex (BOREx), rise (RISE), mc-rise (MCRISE) "
    "or occlusion (Occlusion)."
)


class BlackBoxError(OSError):
    """The passes of a black box are used up, or all attempts of a call failed.

    Evaluations stop at it, and resume when they are started again.

    Args:
        message (str): What happened.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)


class BlackBox(nn.Module):
    """A function of NumPy images as a classifier: a remote endpoint, scikit-learn.

    It has no gradient and no layers; methods that need them say so.

    With ``cache`` the scores of each image are kept on disk under a hash of its bytes,
    dtype and shape. A run that was killed and is started again calls the function only
    for images that it has not scored yet. Several processes may share a folder. A
    folder belongs to one function: use another one when the function changes.

    Args:
        function (Callable): Function from images, a float32 array (N, H, W, C) in the
            units of the model's preprocessing, to scores (N, classes), or (N,) for one
            score per image.
        batch_size (int, optional): Most images per call. With ``cache`` the scores of
            a call are kept as soon as it returns. Default: None (all that are given)
        max_passes (int, optional): Most images that are passed to the function, those
            of failed calls included. Default: None (no limit)
        retries (int, optional): Number of further attempts after a call that raised
            one of ``retry_on``. Default: 3
        retry_on (type or tuple of types, optional): Exceptions after which the call is
            repeated. Default: OSError, of which errors of connections and time limits,
            urllib's and requests' errors are subclasses
        wait (float, optional): Seconds before the second attempt; twice as many before
            each further one. Default: 1
        cache (str or Path, optional): Folder for scores; it is created. Default: None

    Attributes:
        n_passes (int): Number of images passed to the function so far.

    Examples::

        >>> import numpy as np
        >>> def brightness(images):  # (N, H, W, C)
        ...     bright = images.mean((1, 2, 3))
        ...     return np.stack([1 - bright, bright], 1)
        >>> model = BlackBox(brightness, max_passes=500)
        >>> model(torch.ones(2, 3, 8, 8))
        tensor([[0., 1.],
                [0., 1.]])
        >>> maps = PNRISE(model).attribute(torch.rand(1, 3, 8, 8), target=1, n_masks=64)
        >>> model.n_passes
        66
    """

    def __init__(
        self,
        function: Callable[[NDArray[np.float32]], Any],
        *,
        batch_size: int | None = None,
        max_passes: int | None = None,
        retries: int = 3,
        retry_on: type[Exception] | tuple[type[Exception], ...] = OSError,
        wait: float = 1.0,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__()
        check_callable("function", function)
        for name, value in (("batch_size", batch_size), ("max_passes", max_passes)):
            if value is not None:
                check_integer(name, value, 1)
        check_not_negative("wait", wait)
        self.function = function
        self.batch_size, self.max_passes = batch_size, max_passes
        self.retries = check_integer("retries", retries, 0)
        self.retry_on, self.wait = _exceptions(retry_on), wait
        self.cache = None if cache is None else Path(cache)
        self.n_passes = 0

    def forward(self, images: Tensor) -> Tensor:
        """Score images.

        Args:
            images (Tensor): Images (B, C, H, W), preprocessed for the function.

        Returns:
            *Tensor*: Scores (B, classes), float32 on the device of ``images``.

        Raises:
            ValueError: If a gradient is needed, or the function returns something else
                than scores.
            BlackBoxError: If ``max_passes`` is reached, or the function failed in all
                attempts.
        """
        if images.requires_grad and torch.is_grad_enabled():
            raise ValueError(_NO_INSIDE)
        batch = images.detach().movedim(1, -1).float().cpu().contiguous().numpy()
        scores = (
            self._called(batch)
            if self.cache is None
            else self._cached(self.cache, batch)
        )
        return torch.from_numpy(scores).to(images.device)

    def _cached(self, folder: Path, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores from the cache, once those that it lacks are computed."""
        paths = [_path(folder, image) for image in batch]
        missing = {path: i for i, path in enumerate(paths) if not path.is_file()}
        for chunk in _chunks([*missing], self.batch_size):
            scores = self._attempt(batch[[missing[path] for path in chunk]])
            for path, row in zip(chunk, scores):
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as file:
                    np.save(file, row)
        try:
            return np.stack([np.load(path, allow_pickle=False) for path in paths])
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"cache must be a folder of this function's scores, got "
                f"{str(folder)!r} ({error})."
            ) from error

    def _called(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of images, computed in calls of at most ``batch_size``."""
        chunks = _chunks(batch, self.batch_size)
        return np.concatenate([self._attempt(chunk) for chunk in chunks])

    def _attempt(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of one call, which is repeated if it fails."""
        for attempt in range(self.retries + 1):
            self._spend(len(batch))
            try:
                return _scores(self.function(batch), len(batch))
            except self.retry_on as error:
                failure = error
            if attempt < self.retries:
                time.sleep(self.wait * 2**attempt)
        raise BlackBoxError(
            f"function must return scores in one of {self.retries + 1} attempts, got "
            f"{failure!r} in the last."
        ) from failure

    def _spend(self, n: int) -> None:
        """Count images, unless they would exceed the limit."""
        needed = self.n_passes + n
        if self.max_passes is not None and needed > self.max_passes:
            raise BlackBoxError(
                f"max_passes must be at least {needed} for the next call, got "
                f"{self.max_passes}."
            )
        self.n_passes = needed


def check_inside(model: nn.Module) -> None:
    """Raise an error for a black box, where layers or gradients are needed.

    Args:
        model (nn.Module): Classifier.

    Raises:
        ValueError: If it is a black box or contains one.
    """
    if any(isinstance(module, BlackBox) for module in model.modules()):
        raise ValueError(_NO_INSIDE)


def _path(folder: Path, image: NDArray[np.float32]) -> Path:
    """File of the scores of an image."""
    digest = hashlib.sha256(f"{image.dtype} {image.shape} ".encode())
    digest.update(image.tobytes())
    name = digest.hexdigest()
    # Few file systems are fast with a folder of 100,000 files.
    return folder / name[:2] / f"{name}.npy"


def _chunks(items: Any, size: int | None) -> list[Any]:
    """Parts of a sequence of at most ``size`` items; None is no limit."""
    n = size or max(1, len(items))
    return [items[i : i + n] for i in range(0, len(items), n)]


def _exceptions(given: object) -> tuple[type[Exception], ...]:
    types = given if isinstance(given, tuple) else (given,)
    for each in types:
        if not (isinstance(each, type) and issubclass(each, Exception)):
            raise TypeError(f"retry_on must hold types of exceptions, got {each!r}.")
    return types


def _scores(given: object, n: int) -> NDArray[np.float32]:
    """Scores (n, classes) of what the function returned."""
    try:
        scores = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"function must return numbers (N, classes), got {type(given).__name__} "
            f"({error})."
        ) from error
    if scores.shape == (n,):
        return scores[:, None]
    if scores.ndim != 2 or len(scores) != n or scores.shape[1] == 0:
        raise ValueError(
            f"function must return scores (N, classes) or (N,) for N = {n} images, got "
            f"shape {scores.shape}."
        )
    return scores
