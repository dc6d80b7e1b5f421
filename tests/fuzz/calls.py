"""Public names with the kinds of their arguments, and what a right result is.

The parameters are those of the signature: a new one without a kind, and a new public
name that is neither here nor among the exceptions, fail a test.
"""

import inspect
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from captum_ext import attr, masking, masks, metrics, targets, visualization

from .values import (
    BASELINES,
    BOXES,
    FLAG,
    FUNCTION,
    GENERATOR,
    GRID,
    IMAGES,
    INF,
    LAYER,
    LAYOUT,
    MANY,
    MAPS,
    MASKS,
    NAN,
    NETWORK,
    NO_NUMBER,
    NOT_NEGATIVE,
    OBJECTIVE,
    PALETTE,
    PER_EVAL,
    POSITIVE,
    PRIOR,
    PROBABILITY,
    REGIONS,
    REMOVAL,
    SEED,
    TARGET,
    Answers,
    Case,
    Make,
    bad_tensor,
    boxes,
    broken,
    choice,
    columns,
    integers,
    no_tensor,
    values,
)

Kind = Sequence[list[Make]]


@dataclass(frozen=True)
class Call:
    """A public name, the kinds of its arguments, and what it may return.

    ``given`` arguments are always passed; ``method`` is called on a new object; what is
    wrong with ``late`` calls may show only after a forward pass.
    """

    function: Callable[..., Any]
    kinds: Mapping[str, Kind]
    right: Callable[[Case, Mapping[str, Any], Any], bool]
    given: tuple[str, ...] = ()
    method: str = ""
    weight: int = 10
    late: bool = False

    def parameters(self) -> dict[str, inspect.Parameter]:
        """Parameters of the function, and of the method if there is one."""
        called = [self.function]
        if self.method:
            called.append(getattr(self.function, self.method))
        found: dict[str, inspect.Parameter] = {}
        for each in called:
            signature = inspect.signature(inspect.unwrap(each))
            found |= {k: v for k, v in signature.parameters.items() if k != "self"}
        return found

    def run(self, arguments: Mapping[str, Any]) -> Any:
        """The result of the function, or of the method of a new object."""
        if not self.method:
            return self.function(**arguments)
        own = inspect.signature(self.function).parameters
        new = self.function(**{k: v for k, v in arguments.items() if k in own})
        others = {k: v for k, v in arguments.items() if k not in own}
        return getattr(new, self.method)(**others)


SHARED: dict[str, Kind] = {
    "forward_func": FUNCTION,
    "inputs": IMAGES,
    "target": TARGET,
    "baselines": BASELINES,
    "additional_forward_args": [values(None), []],
    "feature_mask": REGIONS,
    "n_masks": integers(8, 11, bad=(0, -1, 1)),
    "n_iterations": integers(1, 3, 12),
    "grid_size": GRID,
    "layout": LAYOUT,
    "keep_probability": PROBABILITY,
    "mask_probability": PROBABILITY,
    "perturbations_per_eval": PER_EVAL,
    "seed": SEED,
    "return_std_error": FLAG,
    "return_sizes": FLAG,
    "show_progress": [values(False), FLAG[1]],
    "tolerance": [[*values(None), *POSITIVE[0]], POSITIVE[1]],
    "rtol": [[*values(None), *POSITIVE[0]], POSITIVE[1]],
    "input_shaped": FLAG,
    "attributions": MAPS,
    "boxes": BOXES,
    "n_steps": integers(1, 4),
    "return_curve": FLAG,
    "radius": POSITIVE,
    "threshold": [values(0.5, 0.2), POSITIVE[1]],
    "thresholding": choice("value", "mean"),
    "rescale": [values(True), FLAG[1]],
    "network": NETWORK,
    "generator": GENERATOR,
    "prior": PRIOR,
    "colors": PALETTE,
    "layer": LAYER,
    "device_ids": [values(None, [0]), values(5, "0", [-1], [0.5], ["a"], object())],
    "objective": OBJECTIVE,
    "learning_rate": POSITIVE,
    "return_posterior": FLAG,
    "attribute_to_layer_input": FLAG,
    "relu_attributions": FLAG,
    "grad_kwargs": [values(None, {}), values(5, "create_graph", [], object())],
    "reshape_transform": [
        [*values(None), lambda c: lambda tensor: tensor + 0],
        values(5, "tokens", [5], 0, {}),
    ],
}


def finite(value: object) -> bool:
    return isinstance(value, Tensor) and bool(torch.isfinite(value).all())


def each_of(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def is_map(case: Case, arguments: Mapping[str, Any], result: Any) -> bool:
    """Finite attributions in the shape, dtype and structure of the inputs."""
    if isinstance(result, attr.Refinement):
        scored = result.scores.isfinite() == result.masks.flatten(2).any(2)
        if not scored.all():
            return False
        return is_map(case, {**arguments}, result.attributions)
    if arguments.get("return_std_error") in (True, np.bool_(True)):
        return all(
            is_map(case, {**arguments, "return_std_error": False}, r) for r in result
        )
    if arguments.get("return_sizes") in (True, np.bool_(True)):
        result, sizes = result
        if len(sizes) != case.n:
            return False
    if isinstance(arguments["inputs"], tuple) != isinstance(result, tuple):
        return False
    pairs = list(zip(each_of(result), each_of(arguments["inputs"])))
    return len(each_of(result)) == len(pairs) and all(
        finite(maps) and len(maps) == len(x) and maps.dtype == x.dtype
        for maps, x in pairs
    )


def is_image_map(case: Case, arguments: Mapping[str, Any], result: Any) -> bool:
    if not is_map(case, arguments, result):
        return False
    if isinstance(result, attr.Refinement):
        result = result.attributions
    if arguments.get("return_std_error") in (True, np.bool_(True)):
        result = result[0]
    pairs = zip(each_of(result), each_of(arguments["inputs"]))
    return all(maps.shape == x.shape for maps, x in pairs)


def is_number_each(case: Case, arguments: Mapping[str, Any], result: Any) -> bool:
    """One float64 number per example on the CPU, NaN only without an object."""
    if isinstance(result, tuple):
        result = result[0]
    if not isinstance(result, Tensor) or result.dtype != torch.float64:
        return False
    regions = arguments.get("boxes"), arguments.get("masks")
    empty = any(_is_empty(each) for each in regions if each is not None)
    known = result.isnan() if empty else result.isfinite()
    return result.shape == (case.n,) and bool(known.all())


def _is_empty(regions: Any) -> bool:
    if isinstance(regions, Tensor) and regions.dtype == torch.bool:
        return not regions.any()
    return len(regions[0]) == 0


def is_number_or_nan(case: Case, arguments: Mapping[str, Any], result: Any) -> bool:
    """One float64 number per example; NaN where the metric is not defined."""
    if isinstance(result, tuple):
        result = result[0]
    fits = result.dtype == torch.float64 and result.shape == (case.n,)
    return bool(fits and not result.isinf().any())


def is_tensor(*shape: int) -> Callable[..., bool]:
    """Finite numbers with as many axes, and of the sizes that are not -1."""

    def right(case: Case, arguments: Mapping[str, Any], result: Any) -> bool:
        sizes = zip(result.shape, shape)
        fits = all(found == size for found, size in sizes if size != -1)
        return finite(result) and result.dim() == len(shape) and fits

    return right


def is_instance(kind: type) -> Callable[..., bool]:
    return lambda case, arguments, result: isinstance(result, kind)


def is_figure(case: Case, arguments: Mapping[str, Any], result: Any) -> bool:
    """A figure that can be drawn."""
    result.savefig(BytesIO(), dpi=20)
    return isinstance(result, Figure) and bool(result.axes)


def rise_like(function: Any, given: tuple[str, ...] = (), **kinds: Kind) -> Call:
    return Call(
        function,
        {**SHARED, "inputs": MANY, **kinds},
        is_map if function is attr.MCRISE else is_image_map,
        ("forward_func", "inputs", "target", "n_masks", *given),
        "attribute",
        14,
    )


def of_maps(
    function: Any, given: tuple[str, ...] = (), late: bool = False, **kinds: Kind
) -> Call:
    always = ("forward_func", "inputs", "attributions", "target", *given)
    return Call(function, {**SHARED, **kinds}, is_number_each, always, late=late)


def of_defined(
    function: Any, given: tuple[str, ...] = (), late: bool = False, **kinds: Kind
) -> Call:
    call = of_maps(function, given, late, **kinds)
    return replace(call, right=is_number_or_nan, weight=5)


# Metrics have all arguments of each other; not all of them matter.
NO_TARGET: dict[str, Kind] = {
    "target": [TARGET[0], []],
    "baselines": [BASELINES[0], []],
}
NO_MODEL: dict[str, Kind] = {
    **NO_TARGET,
    "forward_func": [[*values(None), *FUNCTION[0]], []],
}
UNBIASED = ("control_variate", "monte_carlo")
ESTIMATOR = choice(*UNBIASED, "field")
IMAGE = [
    [
        lambda c: c.tensor(3, c.height, c.width),
        lambda c: c.tensor(1, c.height, c.width),
        lambda c: c.tensor(c.height, c.width, 3).numpy(),
    ],
    [
        *values(None, "image.png", 5, [[0.5]], object(), {}),
        # Without the image of Pillow, which is one.
        *no_tensor(lambda c: c.tensor(3, c.height, c.width))[7:11],
        broken(lambda c: c.tensor(3, c.height, c.width), float("nan")),
        lambda c: c.tensor(3, c.height, c.width) * 255,
        lambda c: torch.cat([c.images(), c.images()]),
        lambda c: c.tensor(2, c.height, c.width),
        lambda c: c.tensor(c.height, c.width, 3).numpy().astype(complex),
        lambda c: np.array(["a"]),
        lambda c: np.array([[[None] * 3]]),
    ],
]
MAP = [
    [
        lambda c: c.tensor(1, c.height, c.width) - 0.5,
        lambda c: torch.zeros(c.height, c.width),
        lambda c: c.tensor(2, 3, 3),
        lambda c: c.tensor(c.height, c.width, 2).numpy(),
    ],
    [
        *IMAGE[1][:10],
        lambda c: torch.cat([c.images(), c.images()]),
        lambda c: c.tensor(0, 3),
        broken(lambda c: c.tensor(c.height, c.width), float("inf")),
        lambda c: c.tensor(c.height, c.width, 3).numpy().astype(complex),
        lambda c: c.tensor(1, 2 * c.height, c.width),
    ],
]
# A map alone may have any size.
ANY_MAP = [MAP[0], MAP[1][:-1]]
VIDEO = [
    [lambda c: c.tensor(3, 2, c.height, c.width)],
    [*IMAGE[1][:11], lambda c: c.tensor(3, c.height, c.width)],
]
VIDEO_MAP = [
    [lambda c: c.tensor(1, 2, c.height, c.width) - 0.5],
    [*MAP[1][:12], lambda c: c.tensor(3, c.height, c.width)],
]
NUMBERS_OF_CHANNELS = [
    *values(None, 5, "0.5", [0.5], [0.5] * 4, {}, object(), ["a"] * 3, [None] * 3),
    *values([float("nan")] * 3, [float("inf")] * 3, [10**400] * 3, [1j] * 3),
    lambda c: torch.rand(3, 1),
    lambda c: torch.rand(3, device="meta"),
]
TEXT = [values("one", ""), values(None, 5, b"one", ["one"], object())]
NAMES = [
    values(None, ["a", "b"], ("a", "b")),
    values(5, "ab", ["a"], [1, 2], [None, None], object(), {}),
]
LAYOUTS = [
    [lambda c: [masks.RegionLayout([columns(c) // n]) for n in (3, 2)]],
    values(None, 5, "grid", [], [5], masks.RegionLayout, object(), {}),
]
POINTS = [
    [lambda c: c.tensor(5, 2)],
    [
        *bad_tensor(lambda c: c.tensor(5, 2)),
        lambda c: c.tensor(5),
        lambda c: c.tensor(0, 2),
    ],
]
SIZES = [
    [lambda c: c.tensor(5) + 0.1],
    [
        *bad_tensor(lambda c: c.tensor(5)),
        lambda c: c.tensor(4),
        lambda c: -c.tensor(5),
        lambda c: torch.zeros(5),
    ],
]
AXES = [
    values((8, 9), [8, 9]),
    [
        *values(None, 8, "89", (), (0, 9), (8.5, 9), (-1, 9), (True, 9), {}, object()),
        *values((10**400, 9), ("8", "9")),
    ],
]


class TrainingImages:
    """Six images with classes, one of which may be wrong."""

    def __init__(self, *last: Any) -> None:
        self.items = [(torch.rand(3, 8, 8), i % 3) for i in range(6)]
        if last:
            self.items[-1] = last

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


IMAGE_8 = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
DATASET = [
    [lambda c: TrainingImages()],
    [
        *values(None, 5, "folder", object(), {1, 2}, [], iter([])),
        *(
            lambda c, last=last: TrainingImages(*last)
            for last in [
                (IMAGE_8, 0.5),
                (IMAGE_8, 7),
                (IMAGE_8, -1),
                (IMAGE_8, True),
                (IMAGE_8, "cat"),
                (IMAGE_8, None),
                (IMAGE_8[:1], 0),
                (IMAGE_8[0], 0),
                (IMAGE_8[:, 1:], 0),
                (IMAGE_8.long(), 0),
                (IMAGE_8 * float("nan"), 0),
                (IMAGE_8.numpy(), 0),
                ("image.png", 0),
                (IMAGE_8,),
                (IMAGE_8, 0, 0),
            ]
        ),
    ],
]
BLACK_BOX = [
    [
        lambda c: Answers(lambda x: x.mean((2, 3))),
        lambda c: Answers(lambda x: {"logits": x.mean((2, 3))}),
        lambda c: Answers(lambda x: (x.mean((2, 3)),)),
    ],
    [
        *values(None, 5, "model", [len], object()),
        *(
            lambda c, answer=answer: Answers(answer)
            for answer in [
                lambda x: {"a": x.mean((2, 3)), "b": x.mean((2, 3))},
                lambda x: (x.mean((2, 3)), x.mean((2, 3))),
                lambda x: x.mean((2, 3))[:, :2],
                lambda x: x.mean((2, 3)).repeat(1, 2),
                lambda x: x.mean(),
                lambda x: x,
                lambda x: x.mean((2, 3)) * float("nan"),
                lambda x: None,
            ]
        ),
    ],
]
REFERENCE = [
    [lambda c: c.tensor(3), lambda c: c.tensor(1, 3)],
    [
        *bad_tensor(lambda c: c.tensor(3)),
        lambda c: c.tensor(2, 3),
        lambda c: c.tensor(0),
    ],
]
DISTANCE = [
    [*values(None), lambda c: torch.nn.PairwiseDistance(1)],
    [
        *values(5, "cosine", [len], 0.5),
        *(
            lambda c, wrong=wrong: wrong
            for wrong in [
                lambda a, b: (a - b).sum(),
                lambda a, b: (a - b).norm(dim=1, keepdim=True),
                lambda a, b: (a - b).norm(dim=1) * float("nan"),
                lambda a, b: (a - b).norm(dim=1) / 0,
                lambda a, b: 0.5,
                lambda a, b: None,
            ]
        ),
    ],
]
EMBEDDER = [
    [lambda c: c.model],
    [
        *FUNCTION[1],
        *(
            lambda c, answer=answer: Answers(answer)
            for answer in [
                lambda x: x.mean((2, 3)) * float("nan"),
                lambda x: x,
                lambda x: "cat",
                lambda x: None,
                lambda x: x.mean((2, 3)).to(torch.complex64),
            ]
        ),
    ],
]

NORMALIZATION: Kind = [
    values(None, ((0.5,) * 3, (0.25,) * 3), [[0, 0, 0], [1, 1, 1]]),
    [
        *values(5, "mean", (), ((0.5,) * 3,), {}, object(), (None, None)),
        *values((0.5, 0.5), ((0.5,), (0.5,)), ("abc", "abc"), (["a"] * 3,) * 2),
        *values(([0.5] * 3, [0.0] * 3), ([0.5] * 3, [NAN] * 3), ([INF] * 3, [1] * 3)),
    ],
]
OPTIONAL_FLAG: Kind = [
    [*values(None), *FLAG[0]],
    [each for each in FLAG[1] if each(Case(random.Random())) is not None],
]
VECTOR: Kind = [
    [lambda c: c.tensor(3) - 0.5, lambda c: torch.zeros(1, 3)],
    [*MAP[1][:11], lambda c: c.tensor(2, 3), lambda c: c.tensor(0)],
]
SERIES: Kind = [
    [lambda c: c.tensor(2, c.width) - 0.5, lambda c: c.tensor(1, 2, c.width)],
    [*MAP[1][:11], lambda c: c.tensor(3), lambda c: c.tensor(2, 0)],
]
TOKENS: Kind = [
    values(["a", "$b", "c"], ("a", "b", "c")),
    values(None, 5, "abc", ["a"], [1, 2, 3], [None] * 3, object(), {}),
]
OF_REGIONS: dict[str, Kind] = {
    **NO_MODEL,
    "masks": MASKS,
    "boxes": [values(None), BOXES[1]],
}
OF_ROAD: dict[str, Kind] = {
    "baselines": NO_TARGET["baselines"],
    "noise": NOT_NEGATIVE,
    "fractions": [
        values((0.5,), [0.1, 0.9]),
        values(None, 5, "0.5", [], [0], [1.5], ["a"], [None], [NAN], object(), {}),
    ],
}


def train(**arguments: Any) -> Any:
    """Train in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(arguments.get("output"), Path):
            arguments["output"] = Path(folder) / arguments["output"]
        return masking.train_masking_network(**{"n_epochs": 1, **arguments})


train.__signature__ = inspect.signature(masking.train_masking_network)  # type: ignore


def score_of_similarity(network: Any, reference: Any, scale: Any, distance: Any) -> Any:
    """The constructor, and one score."""
    score = attr.EmbeddingSimilarity(network, reference, scale, distance)
    return score(torch.linspace(0, 1, 432).view(2, 3, 8, 9))


def explanation(model: Any) -> Tensor:
    return model.layer.weight.detach().mean().expand(1, 1, 4, 4)


CALLS: dict[str, Call] = {
    "attr.RISE": rise_like(attr.RISE, estimator=choice(*UNBIASED)),
    "attr.PNRISE": rise_like(attr.PNRISE, estimator=ESTIMATOR),
    "attr.MCRISE": rise_like(attr.MCRISE, ("colors",), estimator=ESTIMATOR),
    "attr.BOREx": Call(
        attr.BOREx,
        {
            **SHARED,
            "inputs": MANY,
            "variant": choice("field", "windows", "paper"),
            "candidates": [
                values(None, "halves", ["halves"], ("regions", "squares")),
                values(5, "nonsense", [], ["nonsense"], [5], object(), {}, [None]),
            ],
            "mask_sizes": [
                values(None, [2, 4], (3,)),
                values(5, "3", [], [0], [2.5], [100], [True], object(), {}, [10**400]),
            ],
            "acquisition": choice(None, "information", "ucb", "ei", "std"),
            "masks_per_step": [[*values(None), *integers(1, 2)[0]], integers(1)[1]],
        },
        is_image_map,
        ("forward_func", "inputs", "target", "n_iterations"),
        "attribute",
        5,
    ),
    "attr.IterativeMask": Call(
        attr.IterativeMask,
        {
            **SHARED,
            "mask_stride": integers(1, 4),
            "goal": choice("both", "preserve", "delete"),
            "area": [[*values(None), *PROBABILITY[0]], PROBABILITY[1]],
        },
        is_image_map,
        ("forward_func", "inputs", "target", "n_steps"),
        "attribute",
    ),
    "attr.MaskingModel": Call(
        attr.MaskingModel,
        SHARED,
        is_image_map,
        ("network", "inputs", "target"),
        "attribute",
    ),
    "attr.LayerCAMERAS": Call(
        attr.LayerCAMERAS,
        {
            **SHARED,
            "layer": [
                [*LAYER[0], lambda c: [c.model.layer]],
                values(None, 0, "layer", len, object(), [], [5], Tensor),
            ],
            "reshape_transform": [
                [*values(None, [None]), lambda c: [lambda tensor: tensor + 0]],
                values(5, "tokens", [5], [None, None], 0, {}),
            ],
            "max_size": [
                values(12, (10, 12)),
                values(0, -1, 2.5, "12", (1, 2, 3), (0, 5), True, {}, object(), None),
            ],
            "sizes": [
                values("search", "paper", [12], [(10, 12), 8]),
                values(None, 5, "12", [0], [(1, 2, 3)], [2.5], object(), {}, [None]),
            ],
            "normalize": FLAG,
            "interpolate_mode": choice("bilinear", "nearest"),
        },
        is_map,
        ("forward_func", "inputs", "target", "layer", "max_size", "n_steps"),
        "attribute",
    ),
    "attr.LayerGradCamPlusPlus": Call(
        attr.LayerGradCamPlusPlus,
        {**SHARED, "attr_dim_summation": FLAG, "eps": NOT_NEGATIVE},
        is_map,
        ("forward_func", "inputs", "target", "layer"),
        "attribute",
    ),
    "attr.EmbeddingSimilarity": Call(
        score_of_similarity,
        {
            "network": EMBEDDER,
            "reference": REFERENCE,
            "scale": POSITIVE,
            "distance": DISTANCE,
        },
        is_tensor(2),
        ("network", "reference", "scale", "distance"),
        late=True,
    ),
    "attr.last_map_layer": Call(
        attr.last_map_layer,
        {
            "model": [[lambda c: c.model], values(None, 5, "model", len, object(), [])],
            "inputs": IMAGES,
        },
        lambda case, arguments, result: isinstance(result.layer, torch.nn.Module),
        ("model", "inputs"),
        late=True,
    ),
    "attr.maps_of_channels_last": Call(
        attr.maps_of_channels_last,
        {
            "activations": [
                [lambda c: c.tensor(2, 4, 5, 3)],
                no_tensor(lambda c: c.tensor(2, 4, 5, 3)),
            ]
        },
        is_tensor(2, 3, 4, 5),
        ("activations",),
    ),
    "attr.maps_of_tokens": Call(
        attr.maps_of_tokens,
        {
            "activations": [
                [lambda c: c.tensor(2, 10, 5)],
                [*no_tensor(lambda c: c.tensor(2, 10, 5)), lambda c: c.tensor(2, 10)],
            ],
            "n_prefix": [values(1), [*integers(1)[1][:5], *values(-1, 10, 10**400)]],
            "width": [values(3), [*integers(1)[1], *values(4)]],
            "size": [
                values(None, (48, 48), [30, 30]),
                [*AXES[1][1:], *values((8, 9, 10))],
            ],
        },
        is_tensor(2, 5, 3, 3),
        ("activations", "width"),
    ),
    "masks.GridLayout": Call(
        masks.GridLayout,
        {"size": AXES, "grid": [values((2, 3), [1, 2]), [*AXES[1], *values((2, 10))]]},
        is_instance(masks.MaskLayout),
        ("size", "grid"),
    ),
    "masks.MixedLayout": Call(
        masks.MixedLayout,
        {"layouts": LAYOUTS},
        is_instance(masks.MaskLayout),
        ("layouts",),
        weight=4,
    ),
    "masks.ProductLayout": Call(
        masks.ProductLayout,
        {"layouts": LAYOUTS},
        is_instance(masks.MaskLayout),
        ("layouts",),
        weight=4,
    ),
    "masks.RegionLayout": Call(
        masks.RegionLayout,
        {
            "regions": [
                [lambda c: [columns(c)], lambda c: (columns(c) // 2,)],
                [
                    *values(None, 5, "regions", [], [5], object(), {}),
                    lambda c: [columns(c).float()],
                    lambda c: [columns(c)[0, 0, 0]],
                    lambda c: [columns(c).expand(2, -1, -1, -1)],
                    lambda c: [columns(c).to("meta")],
                    lambda c: [columns(c)[:, :, :0]],
                ],
            ]
        },
        is_instance(masks.MaskLayout),
        ("regions",),
    ),
    "masks.MaskCodes": Call(
        masks.MaskCodes,
        {
            "cells": [
                [lambda c: torch.ones(4, 3, dtype=torch.uint8)],
                [*no_tensor(lambda c: c.tensor(4, 3)), lambda c: c.tensor(4, 3)],
            ],
            "shifts": [
                [lambda c: torch.zeros(4, 2, dtype=torch.int32)],
                [*no_tensor(lambda c: c.tensor(4, 2)), lambda c: c.tensor(3, 2)],
            ],
        },
        is_instance(masks.MaskCodes),
        ("cells", "shifts"),
        weight=4,
    ),
    "masks.Palette": Call(
        masks.Palette,
        {
            "names": [
                values(("a", "b")),
                values(None, 5, "ab", (), ("a",), (1, 2), object(), {}),
            ],
            "rgb": [
                [lambda c: c.tensor(2, 3)],
                [
                    *bad_tensor(lambda c: c.tensor(2, 3)),
                    lambda c: c.tensor(2, 3) + 2,
                    lambda c: c.tensor(2, 4),
                ],
            ],
            "colors": [
                [lambda c: c.tensor(2, 3), lambda c: c.tensor(2, 1)],
                [*bad_tensor(lambda c: c.tensor(2, 3)), lambda c: c.tensor(3, 3)],
            ],
        },
        is_instance(masks.Palette),
        ("names", "rgb", "colors"),
    ),
    "masks.apply_masks": Call(
        masks.apply_masks,
        {
            "inputs": [[lambda c: c.images()], bad_tensor(Case.images)],
            "fills": [
                [lambda c: [torch.zeros(1)], lambda c: (c.images(),)],
                [
                    *values(None, 5, "black", [], [5], [None], {}, object()),
                    lambda c: [torch.zeros(1), torch.zeros(1)],
                    lambda c: [c.tensor(4, 4, 4)],
                    lambda c: [torch.tensor(float("nan"))],
                    lambda c: [c.images().to("meta")],
                ],
            ],
            "masks": [
                [
                    lambda c: c.tensor(2, 1, 1, 1, c.height, c.width),
                    lambda c: c.tensor(2, 1, 1, 1, c.height, c.width) > 0.5,
                ],
                [
                    *bad_tensor(lambda c: c.tensor(2, 1, 1, 1, c.height, c.width)),
                    lambda c: c.tensor(2, 1, 1, 1, c.height, c.width) * 3,
                    lambda c: -c.tensor(2, 1, 1, 1, c.height, c.width),
                    lambda c: c.tensor(c.height, c.width),
                    lambda c: c.tensor(2, 1, 1, 1, c.height, 2),
                ],
            ],
        },
        is_tensor(-1, 3, -1, -1),
        ("inputs", "fills", "masks"),
    ),
    "masks.candidate_masks": Call(
        masks.candidate_masks,
        {
            **SHARED,
            "layout": [
                [lambda c: masks.RegionLayout([columns(c) // 3])],
                values(None, 5, "grid", masks.RegionLayout, object()),
            ],
            "kinds": [
                values(["halves"], ("squares", "regions")),
                values(None, 5, "halves", ["nonsense"], [5], object(), {}),
            ],
            "sides": [
                values([0.5], (0.2, 0.4)),
                values(None, 5, "0.5", [0], [-1], [float("nan")], ["a"], {}, object()),
            ],
            "prior": [
                values(None),
                [
                    *values(5, "map", {}, object(), [0.5] * 9),
                    lambda c: torch.full((-(-c.width // 3),), float("nan")),
                ],
            ],
        },
        is_tensor(-1, -1),
        ("layout", "kinds", "sides", "generator"),
        weight=4,
    ),
    "masks.disjoint_regions": Call(
        masks.disjoint_regions,
        {
            "masks": [
                [
                    lambda c: c.tensor(2, c.height, c.width) > 0.5,
                    lambda c: [c.tensor(c.height, c.width)] * 2,
                ],
                [
                    *values(None, 5, "masks", [], [5], {}, object(), ["a"]),
                    lambda c: c.tensor(c.height, c.width),
                    lambda c: c.tensor(2, c.height, c.width) + 2,
                    lambda c: c.tensor(2, 4, 4).to("meta"),
                    lambda c: c.tensor(2, 4, 4).to_sparse(),
                    lambda c: c.tensor(2, 4, 4) + 0j,
                    broken(lambda c: c.tensor(2, 4, 4), float("nan")),
                    lambda c: [c.tensor(3, 3), c.tensor(4, 4)],
                ],
            ]
        },
        is_tensor(1, 1, -1, -1),
        ("masks",),
    ),
    "masks.draw_masks": Call(
        masks.draw_masks,
        {
            **SHARED,
            "layout": [
                [lambda c: masks.GridLayout((8, 9), (2, 3))],
                values(None, 5, "grid", masks.GridLayout, object()),
            ],
            "probabilities": [
                values((0.5, 0.5), [0.2, 0.3, 0.5], (0, 1), (1.0,)),
                [
                    *values(None, 5, 0.5, "0.5", (), (0.5, 0.6), (-0.5, 1.5), {}),
                    *values((float("nan"), 0.5), ("a", "b"), (None, 1), object()),
                    *values((10**400, 0), (1j, 0)),
                    lambda c: torch.rand(2, 2),
                ],
            ],
            "paired": FLAG,
            "n_masks": integers(2, 8),
        },
        is_instance(masks.MaskCodes),
        ("layout", "probabilities", "n_masks", "generator"),
    ),
    "masks.enlarged_cells": Call(
        masks.enlarged_cells,
        {
            "size": integers(8, 9),
            "n_cells": [integers(2, 3)[0], [*integers(2)[1], *values(99)]],
        },
        is_tensor(-1, -1),
        ("size", "n_cells"),
        weight=4,
    ),
    "masks.image_palette": Call(
        masks.image_palette,
        {
            "inputs": [[lambda c: c.images()], bad_tensor(Case.images)],
            "n_colors": [integers(1, 2)[0], [*integers(1)[1], *values(1000)]],
            "seed": SEED,
        },
        is_tensor(-1, -1, 3),
        ("inputs",),
        weight=4,
    ),
    "masks.memory_format_of": Call(
        masks.memory_format_of,
        {"tensor": [[Case.images], no_tensor(Case.images)]},
        is_instance(torch.memory_format),
        ("tensor",),
        weight=2,
    ),
    "masks.named_palette": Call(
        masks.named_palette,
        {
            "names": [
                values(3, "red", ["red", "blue"], ("black",), np.int64(2)),
                values(
                    0, 9, "mauve", [], ["mauve"], [5], None, {}, True, 2.5, object()
                ),
            ],
            "mean": [values((0.5, 0.5, 0.5), [0, 0, 0]), NUMBERS_OF_CHANNELS],
            "std": [
                values((0.5, 0.5, 0.5), [1, 1, 1]),
                [*NUMBERS_OF_CHANNELS, *values((0, 1, 1), (-1, 1, 1))],
            ],
        },
        is_instance(masks.Palette),
    ),
    "masks.smooth_halves": Call(
        masks.smooth_halves,
        {
            **SHARED,
            "positions": POINTS,
            "sizes": SIZES,
            "share": PROBABILITY,
            "n_masks": integers(1, 8),
        },
        is_tensor(-1, 5),
        ("positions", "sizes", "n_masks", "generator"),
    ),
    "masks.sequence_mask": Call(
        masks.sequence_mask,
        {
            "inputs": [
                [lambda c: c.tensor(c.n, 5, 4)],
                [*no_tensor(lambda c: c.tensor(2, 5, 4)), lambda c: c.tensor(5, 4)],
            ],
            "n_regions": [[*values(None), *integers(1, 5)[0]], integers(1)[1]],
        },
        is_tensor(1, 5, 1),
        ("inputs",),
        weight=4,
    ),
    "masks.superpixels": Call(
        masks.superpixels,
        {
            "images": [[lambda c: c.images()], bad_tensor(Case.images)],
            "n_segments": [[*values(None), *integers(2, 5)[0]], integers(2)[1]],
            "compactness": POSITIVE,
        },
        is_tensor(-1, 1, -1, -1),
        ("images",),
    ),
    "metrics.insertion": of_maps(metrics.insertion, ("n_steps",)),
    "metrics.deletion": of_maps(metrics.deletion, ("n_steps",)),
    "metrics.f_measure": of_maps(
        metrics.f_measure,
        ("boxes",),
        **NO_MODEL,
        masks=[values(None), MASKS[1]],
        variant=choice("sum", "recall_times_precision"),
    ),
    "metrics.pointing_game": of_maps(
        metrics.pointing_game,
        ("masks",),
        **NO_MODEL,
        masks=MASKS,
        boxes=[values(None), BOXES[1]],
        tolerance=NOT_NEGATIVE,
    ),
    "metrics.localization_error": of_maps(
        metrics.localization_error, ("boxes",), **NO_MODEL
    ),
    "metrics.relevance_mass": of_defined(
        metrics.relevance_mass, ("masks",), **OF_REGIONS
    ),
    "metrics.relevance_rank": of_defined(
        metrics.relevance_rank, ("masks",), **OF_REGIONS
    ),
    "metrics.sparseness": of_defined(metrics.sparseness, **NO_MODEL),
    "metrics.average_drop": of_defined(metrics.average_drop),
    "metrics.increase_in_confidence": of_defined(metrics.increase_in_confidence),
    "metrics.mu_fidelity": of_defined(
        metrics.mu_fidelity,
        ("grid_size",),
        grid_size=integers(2, 4, bad=(0, 1, -1, 100)),
        n_subsets=integers(2, 5, bad=(0, 1, -1)),
        fraction=PROBABILITY,
    ),
    "metrics.road_most_relevant": of_defined(metrics.road_most_relevant, **OF_ROAD),
    "metrics.road_least_relevant": of_defined(metrics.road_least_relevant, **OF_ROAD),
    "metrics.efficient_mprt": of_defined(
        metrics.efficient_mprt,
        ("explanation_func",),
        **NO_TARGET,
        forward_func=[[lambda c: c.model], [*FUNCTION[1], lambda c: len]],
        explanation_func=[
            [lambda c: lambda model: explanation(model).expand(c.n, 1, 4, 4)],
            [
                *FUNCTION[1],
                lambda c: lambda model: None,
                lambda c: lambda model: torch.ones(c.n, 4),
            ],
        ],
        n_bins=integers(2, 10, bad=(0, 1, -1)),
    ),
    "metrics.named_baseline": Call(
        metrics.named_baseline,
        {
            "name": choice("black", "blur", "white"),
            "inputs": [[Case.images], bad_tensor(Case.images)],
            "normalization": NORMALIZATION,
        },
        is_instance(Tensor),
        ("name", "inputs"),
        weight=4,
    ),
    "metrics.saliency_metric": of_maps(
        metrics.saliency_metric, baselines=NO_TARGET["baselines"]
    ),
    "metrics.positive_map_density": of_maps(metrics.positive_map_density),
    "metrics.negative_map_density": of_maps(metrics.negative_map_density),
    "metrics.adversarial_sanity": of_defined(
        metrics.adversarial_sanity,
        ("n_steps", "fraction"),
        late=True,
        fraction=PROBABILITY,
        beta=NOT_NEGATIVE,
        normalization=NORMALIZATION,
        # Without attacked images, so that the radius matters.
        baselines=[values(None), BASELINES[1]],
    ),
    "metrics.parameter_randomization": of_maps(
        metrics.parameter_randomization,
        ("explanation_func",),
        **NO_TARGET,
        forward_func=[[lambda c: c.model], [*FUNCTION[1], lambda c: len]],
        explanation_func=[
            [lambda c: lambda model: explanation(model).expand(c.n, 1, 4, 4)],
            [
                *FUNCTION[1],
                lambda c: lambda model: None,
                lambda c: lambda model: torch.full((c.n, 1, 4, 4), float("nan")),
                lambda c: lambda model: torch.ones(c.n, 4),
            ],
        ],
        layers=[
            values(None, ["head"], ("head", "layer")),
            values(5, "head", [], ["nonsense"], [5], [None], object(), {}),
        ],
        return_layers=FLAG,
    ),
    "metrics.EnhancedPGD": Call(
        metrics.EnhancedPGD,
        {
            **SHARED,
            "loss_func": [values(None), values(5, "loss", [], 0.5)],
            "lower_bound": [
                values(-1e4, float("-inf")),
                [*POSITIVE[1][:6], *values(float("nan"))],
            ],
            "upper_bound": [
                values(1e4, float("inf")),
                [*POSITIVE[1][:6], *values(float("nan"))],
            ],
            "step_size": POSITIVE,
            "step_num": integers(1, 3),
            "targeted": FLAG,
            "beta": NOT_NEGATIVE,
            "normalization": NORMALIZATION,
        },
        is_image_map,
        ("forward_func", "inputs", "attributions", "step_num"),
        "perturb",
        late=True,
    ),
    "metrics.center_box": Call(
        metrics.center_box,
        {"inputs": [[Case.images], no_tensor(Case.images)]},
        is_tensor(-1, 1, -1, -1),
        ("inputs",),
        weight=2,
    ),
    "metrics.max_box": Call(
        metrics.max_box,
        {"inputs": [[Case.images], no_tensor(Case.images)]},
        is_tensor(-1, 1, -1, -1),
        ("inputs",),
        weight=2,
    ),
    "metrics.is_difficult": Call(
        metrics.is_difficult,
        {"boxes": BOXES, "other_boxes": [[boxes], BOXES[1][:-1]], "size": AXES},
        is_tensor(-1),
        ("boxes", "other_boxes", "size"),
        weight=4,
    ),
    "targets.SegmentationTarget": Call(
        targets.SegmentationTarget,
        {
            "category": [values(0, 2), integers(1, bad=(-1,))[1]],
            "mask": [
                [lambda c: columns(c)[0, 0], lambda c: c.tensor(4, 4) > 0.1],
                [
                    *bad_tensor(lambda c: c.tensor(4, 4)),
                    lambda c: -c.tensor(4, 4),
                    lambda c: torch.tensor(1.0),
                ],
            ],
        },
        is_instance(targets.SegmentationTarget),
        ("category", "mask"),
        weight=3,
    ),
    "targets.DetectionTarget": Call(
        targets.DetectionTarget,
        {
            "box": [
                [*values([0, 0, 4, 4]), lambda c: torch.tensor([0.0, 0.5, 4.0, 4.0])],
                [
                    *values(None, 5, "0044", [], [0, 0, 4], [4, 0, 0, 4], {}, object()),
                    *values([0, 0, NAN, 4], [0, 0, INF, 4], ["a"] * 4, [10**400] * 4),
                    lambda c: torch.zeros(1, 4),
                    lambda c: torch.zeros(4, device="meta"),
                ],
            ],
            "label": [values(0, 2), integers(1, bad=(-1,))[1]],
        },
        is_instance(targets.DetectionTarget),
        ("box", "label"),
        weight=3,
    ),
    "targets.SimilarityTarget": Call(
        targets.SimilarityTarget,
        {
            "reference": REFERENCE,
            "scale": [[*values(None), *POSITIVE[0]], POSITIVE[1]],
            "distance": [values(None), values(5, "cosine", [len], 0.5)],
        },
        is_instance(targets.SimilarityTarget),
        ("reference",),
        weight=3,
    ),
    "targets.embedding_similarity": Call(
        targets.embedding_similarity,
        {
            "embedding": [
                [lambda c: c.tensor(2, 3)],
                [*no_tensor(lambda c: c.tensor(2, 3)), lambda c: c.tensor(2, 4)],
            ],
            "reference": [
                [lambda c: c.tensor(1, 3)],
                [*no_tensor(lambda c: c.tensor(1, 3)), lambda c: c.tensor(3)],
            ],
            "scale": [values(0.5), POSITIVE[1]],
            "distance": DISTANCE,
        },
        is_tensor(2),
        ("embedding", "reference", "scale"),
        weight=3,
    ),
    "visualization.beyond_error": Call(
        visualization.beyond_error,
        {
            "attribution": [
                [lambda c: c.tensor(2, 3)],
                no_tensor(lambda c: c.tensor(2, 3)),
            ],
            "std_error": [
                [lambda c: c.tensor(2, 3).abs(), lambda c: c.tensor(3).abs()],
                [
                    *no_tensor(lambda c: c.tensor(2, 3)),
                    lambda c: c.tensor(2, 4).abs(),
                    lambda c: -c.tensor(2, 3).abs() - 1,
                ],
            ],
        },
        is_tensor(2, 3),
        ("attribution", "std_error"),
        weight=3,
    ),
    "visualization.to_numpy_image": Call(
        visualization.to_numpy_image,
        {"image": [IMAGE[0][:2], [*no_tensor(Case.images), Case.images]]},
        is_instance(np.ndarray),
        ("image",),
        weight=4,
    ),
    "visualization.shown_map": Call(
        visualization.shown_map,
        {
            "attribution": ANY_MAP,
            "size": [
                [*values(None), lambda c: (c.height, c.width)],
                [*AXES[1][1:], *values((8, 9, 10))],
            ],
            "percentile": [values(99.0, 100, 1), [*POSITIVE[1], *values(101)]],
        },
        is_instance(np.ndarray),
        ("attribution",),
    ),
    "visualization.overlay": Call(
        visualization.overlay,
        {"image": IMAGE, "attribution": MAP, "signed": OPTIONAL_FLAG},
        is_instance(np.ndarray),
        ("image", "attribution"),
        weight=3,
    ),
    "visualization.bar_figure": Call(
        visualization.bar_figure,
        {
            "attribution": VECTOR,
            "names": [[*values(None), *TOKENS[0]], TOKENS[1][1:]],
            "values": [
                values(None, [1, "b", None]),
                values(5, "abc", [1], object(), {}),
            ],
            "n_bars": integers(1, 2, 12),
        },
        is_figure,
        ("attribution",),
        weight=3,
    ),
    "visualization.series_figure": Call(
        visualization.series_figure,
        {"series": SERIES, "attribution": SERIES, "names": NAMES},
        is_figure,
        ("series", "attribution"),
        weight=3,
    ),
    "visualization.token_figure": Call(
        visualization.token_figure,
        {"tokens": TOKENS, "attribution": VECTOR},
        is_figure,
        ("tokens", "attribution"),
        weight=3,
    ),
    "visualization.overlay_figure": Call(
        visualization.overlay_figure,
        {
            "signed": OPTIONAL_FLAG,
            "contour": [[*values(None), *PROBABILITY[0]], PROBABILITY[1]],
            "image": IMAGE,
            "maps": [
                [lambda c: {"map": c.tensor(1, c.height, c.width)}],
                [
                    *values(None, 5, "map", {}, [], object(), {"map": None}),
                    *values({"map": "map.png"}),
                    lambda c: {5: c.tensor(1, c.height, c.width)},
                    lambda c: {"map": c.tensor(1, c.height, 2 * c.width)},
                    lambda c: {"map": c.tensor(1, c.height, c.width) / 0},
                    lambda c: c.tensor(1, c.height, c.width),
                ],
            ],
        },
        is_figure,
        ("image", "maps"),
        weight=3,
    ),
    "visualization.color_saliency_figure": Call(
        visualization.color_saliency_figure,
        {
            "image": IMAGE,
            "maps": [
                [lambda c: c.tensor(2, c.height, c.width) - 0.5],
                [*MAP[1], lambda c: c.tensor(3, c.height, c.width)],
            ],
            "colors": [
                [lambda c: torch.eye(3)[:2]],
                [
                    *MAP[1][:11],
                    lambda c: torch.eye(3),
                    lambda c: torch.eye(3)[:2] * 2,
                    lambda c: torch.rand(2, 4),
                ],
            ],
            "names": NAMES,
        },
        is_figure,
        ("image", "maps", "colors"),
        weight=3,
    ),
    "visualization.refinement_figure": Call(
        visualization.refinement_figure,
        {
            "image": IMAGE,
            "prior": [[*values(None), MAP[0][0]], MAP[1][1:]],
            "refined": MAP,
            "std": MAP,
            "centers": [
                [lambda c: c.tensor(4, 2)],
                [*MAP[1][:11], lambda c: c.tensor(3, 2), lambda c: c.tensor(4, 3)],
            ],
            "scores": [
                [lambda c: c.tensor(4)],
                [*MAP[1][:11], lambda c: c.tensor(3), lambda c: c.tensor(4, 1)],
            ],
        },
        is_figure,
        ("image", "prior", "refined", "std", "centers", "scores"),
        weight=3,
    ),
    "visualization.stack_figures": Call(
        visualization.stack_figures,
        {
            "figures": [
                [lambda c: [Figure((1, 1), dpi=20)]],
                [*values(None, 5, "figure", [], [5], {}, object()), lambda c: Figure()],
            ]
        },
        is_instance(Image.Image),
        ("figures",),
        weight=2,
    ),
    "visualization.video_gif": Call(
        visualization.video_gif,
        {
            "video": VIDEO,
            "maps": VIDEO_MAP,
            "frame_duration": integers(10, 200, bad=(0, 9, 10**6)),
        },
        lambda case, arguments, result: result.startswith(b"GIF"),
        ("video", "maps"),
        weight=3,
    ),
    "visualization.video_strip": Call(
        visualization.video_strip,
        {
            "video": VIDEO,
            "maps": VIDEO_MAP,
            "n_frames": integers(1, 2, 9),
            "label": TEXT,
        },
        is_figure,
        ("video", "maps"),
        weight=3,
    ),
    "masking.EvidenceRemoval": Call(
        masking.EvidenceRemoval,
        {
            "blur_probability": [
                [*PROBABILITY[0], *values(0, 1)],
                [*NO_NUMBER, *values(-0.5, 1.5, NAN, INF, 10**400)],
            ],
            "sigma": POSITIVE,
            "noise": NOT_NEGATIVE,
            "limits": [
                values(None, ([0.0] * 3, [1.0] * 3)),
                [
                    *values(
                        5, "limits", [], ([0.0],), ([0.0], [1.0, 2.0]), {}, object()
                    ),
                    *values(([1.0], [0.0]), ([float("nan")], [1.0]), (["a"], ["b"])),
                    *values(([], []), (0, 1)),
                ],
            ],
        },
        is_instance(masking.EvidenceRemoval),
    ),
    "masking.SaliencyObjective": Call(
        masking.SaliencyObjective,
        {
            "lambdas": [
                values((1, 1, 1, 1), [0.5, 1, 2, 3]),
                [
                    *values(
                        None, 5, "1111", (), (1, 2, 3), (-1, 1, 1, 1), {}, object()
                    ),
                    *values((float("nan"), 1, 1, 1), ("a",) * 4, (10**400, 1, 1, 1)),
                ],
            ],
            "pixels": POSITIVE,
            "fake_probability": [
                values(0, 0.5),
                [*NO_NUMBER, *values(1, -0.5, NAN)],
            ],
            "selection_weight": NOT_NEGATIVE,
            "evidence_removal": REMOVAL,
            "activation": choice("softmax", "sigmoid", "identity"),
            "absent_weight": NOT_NEGATIVE,
            "distillation": [values(0, 0.5, 1), [*NO_NUMBER, *values(1.5, -0.5, NAN)]],
        },
        is_instance(masking.SaliencyObjective),
    ),
    "masking.MaskingNetwork": Call(
        masking.MaskingNetwork,
        {
            "n_classes": integers(2, 5, bad=(0, 1, -1)),
            "encoder": choice("small"),
            "encoder_weights": [
                values(None),
                values(5, "weights.pt", [], {}, object()),
            ],
            "n_channels": integers(1, 3),
            "width": integers(2, 4),
            "decoder_channels": [
                values(None, (4, 2), [2, 2]),
                values(5, "42", (), (4,), (0, 2), (2.5, 2), {}, object()),
            ],
            "n_bottlenecks": [[*values(None), *integers(1)[0]], integers(1)[1]],
            "seed": SEED,
        },
        is_instance(masking.MaskingNetwork),
        ("n_classes", "width"),
        weight=4,
    ),
    "masking.train_masking_network": Call(
        train,
        {
            **SHARED,
            "black_box": BLACK_BOX,
            "dataset": DATASET,
            "output": [
                [*values(None), lambda c: Path("run")],
                values("", 5, __file__, b"run", ["run"], object()),
            ],
            # Only with an output folder.
            "tensorboard": [values(False), FLAG[1]],
            "validation": [
                values(None),
                [*values(5, "folder", object(), {1, 2}), lambda c: iter([])],
            ],
            "n_epochs": integers(1),
            "batch_size": [integers(3, 6)[0], [*integers(3)[1], *values(7)]],
            "weight_decay": NOT_NEGATIVE,
            "max_gradient_norm": POSITIVE,
            "checkpoint_every": integers(1, 5),
            "n_workers": [values(0), [*integers(1)[1][:-3], *values(-1)]],
        },
        is_instance(masking.MaskingNetwork),
        ("network", "black_box", "dataset", "batch_size"),
        weight=2,
    ),
}

# Rooms and names without generated calls, and why.
EXCEPTIONS: dict[str, str] = {
    "attr.MapLayer": "what last_map_layer returns",
    "attr.Refinement": "what BOREx returns",
    "attr.Replicas": "tests/test_devices.py: a model on devices",
    "attr.WindowVariant": "a variant of BOREx, tests/test_borex.py",
    "masks.MaskLayout": "abstract",
    "masking.SaliencyTerms": "what the objective returns",
    "metrics.enhanced_pgd": "EnhancedPGD in one call",
    "cli": "tests/test_cli.py",
    "datasets": "tests/test_evaluation_datasets.py: files of wrong content",
    "evaluation": "tests/test_evaluation.py: runs on folders",
    "methods": "tests/test_cli.py: attributions by name, with checks of their own",
    "report": "tests/test_report.py: pages of a run folder",
    "subject": "tests/test_cli.py: what the commands build",
    "surrogate": "tests/test_surrogate.py: processes that BOREx builds",
    "zoo": "tests/test_zoo.py: models and scenes",
}
