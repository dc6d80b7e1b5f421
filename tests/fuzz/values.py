"""Good and bad values by kind of argument. A value is made anew for each call."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from captum_ext.masking import EvidenceRemoval, MaskingNetwork, SaliencyObjective
from captum_ext.masks import GridLayout, RegionLayout, named_palette

Make = Callable[["Case"], object]


class TinyNet(nn.Module):
    """Images, video or sequences to three probabilities; counts its passes."""

    def __init__(self, in_place: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = nn.Conv2d(3, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.head = nn.Linear(4, 3)
        self.in_place, self.passes = in_place, 0
        self.eval()

    def forward(self, x: Tensor, table: Tensor | None = None) -> Tensor:
        self.passes += 1
        if self.in_place:
            x.mul_(0.5)
        if x.dim() == 4:
            h = self.norm(self.layer(x)).relu().mean((2, 3))
        else:
            # Tables (B, F), sequences and video.
            rows = x.flatten(1)
            h = torch.stack([rows.mean(1), rows[:, 0], rows[:, -1], rows[:, 2]], 1)
        if table is not None:
            h = h + table[:, :1]
        return (9 * self.head(h)).softmax(1)


class Answers(nn.Module):
    """A model with a wrong answer."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer, self.passes = answer, 0

    def forward(self, x: Tensor, *others: Tensor) -> object:
        self.passes += 1
        return self.answer(x)


@dataclass
class Case:
    """What the arguments of one call share: size of the images, and the model."""

    rng: random.Random
    n: int = 2
    height: int = 8
    width: int = 9
    model: nn.Module | None = None
    good: dict[str, object] = field(default_factory=dict)

    @classmethod
    def draw(cls, rng: random.Random) -> "Case":
        case = cls(rng, rng.choice([1, 2, 3]), rng.choice([6, 8]), rng.choice([6, 9]))
        case.model = TinyNet(in_place=rng.random() < 0.2)
        return case

    def tensor(self, *shape: int) -> Tensor:
        seed = self.rng.randrange(2**31)
        return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))

    def images(self) -> Tensor:
        return self.tensor(self.n, 3, self.height, self.width)


NAN, INF = float("nan"), float("inf")


def broken(make: Callable[["Case"], Tensor], value: float) -> Make:
    """A tensor with one number replaced."""

    def changed(case: Case) -> Tensor:
        tensor = make(case).clone()
        tensor.view(-1)[case.rng.randrange(tensor.numel())] = value
        return tensor

    return changed


def no_tensor(make: Callable[["Case"], Tensor]) -> list[Make]:
    """What comes in the place of a tensor, and tensors that hold no usable numbers."""
    return [
        lambda c: None,
        lambda c: "image.png",
        lambda c: 5,
        lambda c: make(c).tolist(),
        lambda c: [make(c)],
        lambda c: make(c).numpy(),
        lambda c: Image.new("RGB", (8, 8)),
        lambda c: make(c).to("meta"),
        lambda c: make(c).to_sparse(),
        lambda c: torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)]),
        lambda c: make(c).to(torch.complex64),
        lambda c: object(),
        lambda c: {"x": make(c)},
        lambda c: (),
    ]


def bad_tensor(make: Callable[["Case"], Tensor]) -> list[Make]:
    return [*no_tensor(make), broken(make, NAN), broken(make, INF), broken(make, -INF)]


def values(*constants: object) -> list[Make]:
    return [lambda c, value=value: value for value in constants]


NO_NUMBER = [
    *values("0.5", 1j, [0.5], (0.5,), {}, object(), True, np.bool_(True)),
    lambda c: torch.tensor([0.1, 0.2]),
    lambda c: torch.tensor(0.5, device="meta"),
    lambda c: torch.tensor(1j),
    lambda c: np.array([0.1, 0.2]),
    lambda c: np.complex128(1j),
    lambda c: torch.tensor(True),
]
POSITIVE = [
    [*values(0.5, 1, 2.0, np.float32(0.5)), lambda c: torch.tensor(0.5)],
    [*NO_NUMBER, *values(0, -1.0, NAN, INF, -INF, 10**400, -(10**400))],
]
NOT_NEGATIVE = [
    [*POSITIVE[0], *values(0)],
    [*NO_NUMBER, *values(-1.0, NAN, INF, 10**400)],
]
PROBABILITY = [
    values(0.1, 0.5, 0.9, np.float64(0.3)),
    [*NO_NUMBER, *values(0, 1, -0.5, 1.5, NAN, INF, 10**400)],
]
NO_INTEGER = [
    *values("3", 2.5, 1j, [3], (), {}, object(), True, np.float64(3), NAN),
    lambda c: torch.tensor([1, 2]),
    lambda c: torch.tensor(3, device="meta"),
    lambda c: np.array([1, 2]),
    lambda c: torch.tensor(2.0),
]


def integers(*good: int, bad: tuple[int, ...] = (0, -1)) -> list[list[Make]]:
    more = [lambda c: np.int64(good[0]), lambda c: torch.tensor(good[0])]
    wrong = [*NO_INTEGER, *values(*bad, -(10**400), 2**64, 10**400)]
    return [[*values(*good), *more], wrong]


SEED = integers(0, 7, 2**31, bad=(-1,))
FLAG = [
    values(True, False, np.bool_(True)),
    [
        *values("no", 0, 1, 2.5, [], None, object()),
        lambda c: torch.tensor([True, False]),
        lambda c: np.array([True, False]),
    ],
]


def choice(*names: object) -> list[list[Make]]:
    wrong = values("nonsense", "", 5, 2.5, b"grid", ["grid"], {}, object(), NAN)
    arrays = [
        lambda c: np.array(["grid", "mixed"]),
        lambda c: torch.zeros(2),
        lambda c: np.array([1, 2]),
    ]
    return [values(*names), [*wrong, *arrays]]


IMAGES = [
    [
        Case.images,
        lambda c: c.images().requires_grad_(),
        lambda c: c.images().to(memory_format=torch.channels_last),
        lambda c: c.images() * 1e3,
        lambda c: torch.zeros(c.n, 3, c.height, c.width),
        lambda c: (c.images(),),
    ],
    [
        *bad_tensor(Case.images),
        lambda c: c.images()[0],
        lambda c: c.images()[:0],
        lambda c: torch.tensor(0.5),
        lambda c: (c.images(), c.images()[:0]),
        lambda c: c.images()[:, :, :0],
    ],
]
# Images, and what the RISE family masks as well.
MANY = [
    [
        *IMAGES[0],
        lambda c: c.tensor(c.n, 3, c.width),
        lambda c: c.tensor(c.n, 5),
        lambda c: c.tensor(c.n, 3, 2, c.height, c.width),
        lambda c: (c.images(), c.tensor(c.n, 5)),
        lambda c: (c.images().permute(0, 1, 3, 2), c.tensor(c.n, 1)),
    ],
    IMAGES[1],
]
FUNCTION = [
    [lambda c: c.model, lambda c: c.model.forward],
    values(None, 5, "model", [len], (), 0.5, {}),
]
# Only a pass shows that they are wrong.
WRONG_ANSWERS = [
    lambda c: Answers(lambda x: torch.full((len(x), 3), NAN)),
    lambda c: Answers(lambda x: torch.full((len(x), 3), INF)),
    lambda c: Answers(lambda x: "cat"),
    lambda c: Answers(lambda x: None),
    lambda c: Answers(lambda x: torch.ones(len(x) + 1, 3)),
    lambda c: Answers(lambda x: torch.ones(len(x), 0)),
    lambda c: Answers(lambda x: [object()]),
]
TARGET = [
    [
        *values(0, 2, (1,)),
        lambda c: [1] * c.n,
        lambda c: torch.arange(c.n) % 3,
        lambda c: torch.tensor(1),
        lambda c: [(2,)] * c.n,
    ],
    [
        *values(True, 1.5, "cat", {}, object(), b"1", NAN, 1j),
        lambda c: [0] * (c.n + 1),
        lambda c: [],
        lambda c: [0.5] * c.n,
        lambda c: ["cat"] * c.n,
        lambda c: torch.rand(c.n),
        lambda c: torch.tensor([0] * c.n, device="meta"),
        lambda c: [None] * c.n,
    ],
]
LATE_TARGET = [
    *values(3, 99, 10**400, (0, 0), ()),
    lambda c: [99] * c.n,
    lambda c: torch.full((c.n,), 3),
]
BASELINES = [
    [
        *values(None, 0, 0.5, np.float32(0.5)),
        lambda c: c.tensor(1, 3, 1, 1),
        lambda c: (0.5,),
    ],
    [
        *values("black", [0], 1j, NAN, INF, 10**400, True, {}, (0, 0), object()),
        lambda c: c.tensor(5, 5),
        lambda c: c.images().numpy(),
        lambda c: c.images().to("meta"),
        lambda c: c.images().to_sparse(),
        broken(Case.images, NAN),
    ],
]


def columns(case: Case) -> Tensor:
    return torch.arange(case.width).view(1, 1, 1, -1).expand(1, 1, case.height, -1)


REGIONS = [
    [
        *values(None),
        lambda c: columns(c) // 3,
        lambda c: (columns(c) // 3).expand(c.n, -1, -1, -1),
        lambda c: columns(c) > 3,
        lambda c: (columns(c) // 2,),
    ],
    [
        *no_tensor(lambda c: columns(c).float())[1:],
        lambda c: columns(c).float(),
        lambda c: columns(c)[..., :-1],
        lambda c: columns(c).numpy(),
    ],
]
GRID = [
    values(None, 2, (2, 3), [3, 2], np.int64(2)),
    [
        *values(0, -1, 2.5, "2", "23", True, (2, 2, 2, 2), (0, 2), (2.5, 2), 100, {}),
        *values(10**400, object(), (True, 2), ()),
        lambda c: torch.tensor([2.5, 2.5]),
        lambda c: np.array([1.5]),
    ],
]
LAYOUT = [
    [
        *values(None, "grid", "superpixels"),
        lambda c: RegionLayout([columns(c) // 3]),
    ],
    [
        *values("nonsense", 5, RegionLayout, object(), ["grid"], {}, b"grid"),
        lambda c: GridLayout((3, 3), (2, 2)),
        lambda c: np.array(["grid", "mixed"]),
        lambda c: torch.zeros(3),
    ],
]
MAPS = [
    [
        lambda c: c.tensor(c.n, 1, c.height, c.width) - 0.3,
        lambda c: c.tensor(c.n, 3, c.height, c.width),
        lambda c: c.tensor(c.n, 1, 3, 3),
        lambda c: (c.tensor(c.n, 1, c.height, c.width),),
    ],
    [
        *bad_tensor(lambda c: c.tensor(c.n, 1, c.height, c.width)),
        lambda c: c.tensor(c.n + 1, 1, 4, 4),
        lambda c: c.tensor(c.height, c.width),
        lambda c: c.tensor(c.n, 0, 4, 4),
    ],
]


def boxes(case: Case, box: tuple[float, ...] = (1.0, 1.0, 4.0, 5.0)) -> list[Tensor]:
    return [torch.tensor([box])] * case.n


BOXES = [
    [
        boxes,
        lambda c: [b.tolist() for b in boxes(c)],
        lambda c: torch.stack(boxes(c)),
        lambda c: [torch.zeros(0, 4)] * c.n,
    ],
    [
        *values(5, "boxes", {}, object(), True),
        *(
            lambda c, box=box: boxes(c, box)
            for box in [(1, 1, 1, 4), (4, 1, 1, 5), (NAN, 0, 1, 1), (0, 0, INF, 1)]
        ),
        lambda c: [torch.ones(2, 3)] * c.n,
        lambda c: ["box"] * c.n,
        lambda c: [None] * c.n,
        lambda c: [b.to("meta") for b in boxes(c)],
        lambda c: [b + 1j for b in boxes(c)],
        lambda c: [b.to_sparse() for b in boxes(c)],
        # The last, because other boxes may be as many.
        lambda c: boxes(c) * 2,
    ],
]


def region_masks(case: Case) -> Tensor:
    return case.tensor(case.n, case.height, case.width) > 0.5


MASKS = [
    [region_masks, lambda c: torch.zeros(c.n, c.height, c.width).bool()],
    [
        *no_tensor(lambda c: region_masks(c).float())[1:],
        lambda c: region_masks(c).float(),
        lambda c: region_masks(c)[:, 1:],
    ],
]
PALETTE = [
    [
        lambda c: torch.eye(3),
        lambda c: named_palette(2),
        lambda c: c.tensor(c.n, 2, 3),
        lambda c: (torch.eye(3)[:1],),
    ],
    [
        *bad_tensor(lambda c: torch.eye(3)),
        lambda c: c.tensor(2, 4),
        lambda c: c.tensor(0, 3),
        lambda c: c.tensor(3),
        lambda c: c.tensor(c.n + 1, 2, 3),
    ],
]
PRIOR = [
    [*values(None), *MAPS[0][:3], lambda c: torch.zeros(c.n, 1, 4, 4)],
    [*MAPS[1][1:3], *MAPS[1][5:11], *MAPS[1][14:]],
]
LAYER = [
    [lambda c: c.model.layer, lambda c: c.model.norm],
    values(None, 0, "layer", len, object(), [nn.ReLU()], TinyNet),
]
PER_EVAL = [
    values("auto", 1, 3, 100),
    [*NO_INTEGER[1:], *values("nonsense", 0, -1, "Auto", 10**400, -(10**400))],
]
GENERATOR = [
    [lambda c: torch.Generator().manual_seed(1)],
    values(None, 0, "seed", torch.Generator, object(), np.random.default_rng(0)),
]
OBJECTIVE = [
    [*values(None), lambda c: SaliencyObjective(selection_weight=0.5)],
    values(-1, "saliency", 0, SaliencyObjective, [], object(), False),
]
REMOVAL = [
    [*values(None), lambda c: EvidenceRemoval(sigma=2)],
    values(-1, "blur", 0, EvidenceRemoval, [], object(), False),
]
NETWORK = [
    [lambda c: MaskingNetwork(3, width=2)],
    values(None, 5, "network", MaskingNetwork, nn.Identity(), object()),
]
