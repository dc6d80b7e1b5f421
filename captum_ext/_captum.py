"""Captum's private helpers, imported only here.

Captum implements the conventions that a drop-in attribution has to share (how a target
selects a column, how additional arguments are expanded with the batch) in underscore
functions. They are imported in one place, without the underscore, so that a change in
Captum affects only this module.
"""

from collections.abc import Callable
from typing import Any, SupportsIndex

import numpy as np
from captum._utils.common import (
    _expand_additional_forward_args as expand_additional_forward_args,
)
from captum._utils.common import _expand_target as expand_target
from captum._utils.common import (
    _format_additional_forward_args as format_additional_forward_args,
)
from captum._utils.common import _format_output as format_output
from captum._utils.common import _format_tensor_into_tuples as format_tensor_into_tuples
from captum._utils.common import _is_tuple as is_tuple
from captum._utils.common import _run_forward as run_forward
from captum._utils.common import _select_targets as select_targets
from captum._utils.gradient import compute_layer_gradients_and_eval
from captum._utils.progress import progress as captum_progress
from captum._utils.typing import (
    BaselineType,
    TensorOrTupleOfTensorsGeneric,
)
from captum._utils.typing import TargetType as CaptumTarget

__all__ = [
    "BaselineType",
    "TargetType",
    "TensorOrTupleOfTensorsGeneric",
    "captum_progress",
    "compute_layer_gradients_and_eval",
    "expand_additional_forward_args",
    "expand_target",
    "format_additional_forward_args",
    "format_output",
    "format_tensor_into_tuples",
    "is_tuple",
    "run_forward",
    "select_targets",
]

Function = Callable[[Any], Any]
# A function of the output returns one number per example; in a list each is of one.
TargetType = CaptumTarget | SupportsIndex | np.ndarray | Function | list[Function]
