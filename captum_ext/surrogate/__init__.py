"""What we believe: Gaussian processes over windows; the only door to GPyTorch."""

import warnings

with warnings.catch_warnings():
    # GPyTorch's own import, under a new PyTorch; no user can do anything about it.
    warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)
    warnings.filterwarnings("ignore", "`torch.jit.script`", DeprecationWarning)
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
