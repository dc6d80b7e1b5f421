"""What we believe: Gaussian processes over windows; the only door to GPyTorch."""

from captum_ext.surrogate.acquisition import ACQUISITIONS, Acquisition
from captum_ext.surrogate.hyperparameters import Hyperparameters
from captum_ext.surrogate.process import WindowProcess
from captum_ext.surrogate.windows import WindowGrid, box_means

__all__ = [
    "ACQUISITIONS",
    "Acquisition",
    "Hyperparameters",
    "WindowGrid",
    "WindowProcess",
    "box_means",
]
