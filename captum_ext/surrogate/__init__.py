"""Gaussian-process surrogate of the scores of masks, on GPyTorch and BoTorch."""

import warnings

with warnings.catch_warnings():
    # Raised when GPyTorch is imported with a recent PyTorch; users cannot avoid it.
    warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)
    warnings.filterwarnings("ignore", "`torch.jit.script`", DeprecationWarning)
    from captum_ext.surrogate.acquisition import (
        ACQUISITIONS,
        Acquisition,
        InformationGain,
    )
    from captum_ext.surrogate.hyperparameters import Hyperparameters
    from captum_ext.surrogate.model import CandidateModel
    from captum_ext.surrogate.posterior import CandidatePosterior
    from captum_ext.surrogate.process import CandidateProcess
    from captum_ext.surrogate.window_process import WindowProcess
    from captum_ext.surrogate.windows import WindowGrid, box_means

__all__ = [
    "ACQUISITIONS",
    "Acquisition",
    "CandidateModel",
    "CandidatePosterior",
    "CandidateProcess",
    "Hyperparameters",
    "InformationGain",
    "WindowGrid",
    "WindowProcess",
    "box_means",
]
