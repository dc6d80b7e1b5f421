"""Training of a masking network: reproducible, resumable, distributed, robust."""

import multiprocessing
import random
import resource
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
from masking_worker import (
    N_STEPS,
    BlackBox,
    KillPoint,
    SmallImages,
    new_network,
    same,
    small_training,
    weights,
    work,
)
from several_processes import exit_codes
from torch import nn

from captum_ext._files import save_tensors
from captum_ext.masking import (
    MaskingNetwork,
    SaliencyObjective,
    SaliencyTerms,
    train_masking_network,
)
from captum_ext.masking.checkpoints import load_checkpoint, load_file
from captum_ext.masking.mask_reports import StepLog, mask_grid, mean_masks
from captum_ext.masking.sampling import SampleDataset, SampleKey, StepSampler

TERMS = [*SaliencyTerms._fields]


@pytest.fixture(scope="module")
def processes():
    """Processes that start in milliseconds, forked from one with all imports done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["captum_ext.masking"])
    return context


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """One thread, as in the worker processes, for the same rounding of sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    small_training(folder, validation=SmallImages(4))
    return folder


def start(
    processes,
    folder: Path,
    points: list[KillPoint | None],
    rendezvous: Path,
    dtype: torch.dtype = torch.float32,
):
    """Exit codes of the training, run in one process per kill point."""
    started = [
        processes.Process(
            target=work, args=(folder, point, rank, len(points), rendezvous, dtype)
        )
        for rank, point in enumerate(points)
    ]
    return exit_codes(started)


# Reproducible and resumable


def test_seed_determines_the_network_without_side_effects():
    state = torch.get_rng_state()
    one, same_seed = small_training(None), small_training(None)
    other = small_training(None, seed=4)
    assert torch.equal(state, torch.get_rng_state())
    a, b, c = (network.state_dict() for network in (one, same_seed, other))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)
    assert not one.training


def test_data_loading_workers_do_not_change_the_result():
    a, b = (small_training(None, n_workers=n).state_dict() for n in (0, 2))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_resumes_after_kills_at_random_points(processes, uninterrupted, tmp_path):
    """Kills between steps and while checkpoints, figures and logs are written."""
    rng, folder = random.Random(0), tmp_path / "run"
    for _ in range(8):
        point = KillPoint(rng.randrange(8, 50), rng.randrange(14))
        codes = start(processes, folder, [point], tmp_path / "rendezvous")
        if codes == [0]:
            break
        assert codes == [-signal.SIGKILL]
    assert start(processes, folder, [None], tmp_path / "rendezvous") == [0]
    assert same(folder, uninterrupted)


@pytest.mark.parametrize("n_files", range(6))
def test_resumes_after_a_kill_at_each_file(n_files, processes, uninterrupted, tmp_path):
    """All files of the first checkpoint, its figure and its logs, and of the next."""
    folder = tmp_path / "run"
    point = KillPoint(10**9, n_files)
    codes = start(processes, folder, [point], tmp_path / "rendezvous")
    assert codes == [-signal.SIGKILL]
    assert start(processes, folder, [None], tmp_path / "rendezvous") == [0]
    assert same(folder, uninterrupted)


def test_finished_training_is_not_repeated(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)

    def fail(x):
        raise AssertionError("the classifier was called")

    network = small_training(folder, black_box=fail)
    expected = weights(uninterrupted)
    assert all(torch.equal(v, expected[k]) for k, v in network.state_dict().items())
    assert same(folder, uninterrupted)


# Distributed


@pytest.fixture(scope="module")
def in_double(tmp_path_factory) -> Path:
    """Run of one process in double precision, where rounding hardly matters."""
    folder = tmp_path_factory.mktemp("double")
    small_training(folder, torch.float64, validation=SmallImages(4, torch.float64))
    return folder


def assert_close(one: Path, other: Path) -> None:
    """Weights and logs of two folders agree up to rounding."""
    expected = weights(other)
    for key, value in weights(one).items():
        torch.testing.assert_close(value, expected[key], atol=1e-6, rtol=1e-5)
    for name in ("log.csv", "validation.csv"):
        logs = (pd.read_csv(folder / name) for folder in (one, other))
        pd.testing.assert_frame_equal(*logs, rtol=1e-5, atol=1e-6)


def test_two_ranks_give_the_result_of_one(processes, in_double, tmp_path):
    """Each rank has half of the batch."""
    folder = tmp_path / "run"
    codes = start(processes, folder, [None] * 2, tmp_path / "rendezvous", torch.float64)
    assert codes == [0, 0]
    assert_close(folder, in_double)


@pytest.mark.parametrize("n_ranks", [1, 2, 3])
def test_resumes_with_another_number_of_ranks(n_ranks, processes, in_double, tmp_path):
    """Three ranks have unequal shares of eight images."""
    folder = tmp_path / "run"
    points: list[KillPoint | None] = [KillPoint(20, 10**9)] * n_ranks
    codes = start(processes, folder, points, tmp_path / "first", torch.float64)
    assert -signal.SIGKILL in codes
    assert 0 < load_file(folder / "checkpoint.pt")["step"] < N_STEPS
    others = [None] * (3 - n_ranks or 2)
    codes = start(processes, folder, others, tmp_path / "second", torch.float64)
    assert not any(codes)
    assert_close(folder, in_double)


def test_shares_of_all_ranks_make_up_the_step():
    def steps(first=0, rank=0, world_size=1):
        return list(StepSampler(10, 4, 6, 0, first, rank, world_size))

    whole = steps()
    assert len(whole) == 6 and all(len(step) == 4 for step in whole)
    for epoch in range(3):
        keys = [key for step in whole[2 * epoch : 2 * epoch + 2] for key in step]
        assert len(set(keys)) == 8 and {key.epoch for key in keys} == {epoch}
    for world_size in (2, 3, 5):
        shares = [steps(2, rank, world_size) for rank in range(world_size)]
        joined = [sum(parts, []) for parts in zip(*shares)]
        assert joined == whole[2:]


def test_fake_classes_differ_from_the_label_and_have_their_probability():
    samples = SampleDataset(SmallImages(), 5, 0.3, seed=0)
    keys = [SampleKey(epoch, i) for epoch in range(40) for i in range(26)]
    drawn = [(key.image % 3, samples[key]) for key in keys]
    assert all(s.label == label for label, s in drawn)
    fakes = [s for _, s in drawn if s.target != s.label]
    assert 0.25 < len(fakes) / len(drawn) < 0.35
    assert {s.target for s in fakes if s.label == 0} == {1, 2, 3, 4}


# Masks, output folder and side effects


@torch.no_grad()
def test_masks_depend_on_the_class():
    """The mask covers the pattern of its class and is small for absent classes."""
    # With the paper's weight the selection after so few steps depends on chance.
    objective = SaliencyObjective(absent_weight=3)
    with torch.enable_grad():
        network = small_training(
            None, n_epochs=200, learning_rate=2e-3, objective=objective
        )
    dataset = SmallImages(12)
    means = mean_masks(network, dataset, 12)
    assert means.absent < means.right / 3
    # The images are randomly mirrored: compare rows only.
    inputs = torch.stack([dataset[i][0] for i in range(12)])
    masks = network(inputs, torch.arange(12) % 3)
    assert masks[:, :, 2:8].mean() > 3 * masks[:, :, 10:].mean()


class MappedImages(SmallImages):
    """Images with maps: the square of the pattern."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        square = torch.zeros(1, 16, 16)
        # The pattern, mirrored or not, is the part with large values.
        square[0, 2:8] = (image[0].abs().mean(0) > 0.6).float()
        return image, label, square


@torch.no_grad()
def test_distilled_masks_are_the_maps():
    """Close to the map for the image's own class, close to zero for the others."""

    def no_gradient(x):
        return torch.zeros(len(x), 3)

    dataset = MappedImages()
    with torch.enable_grad():
        network = small_training(
            None,
            black_box=no_gradient,
            dataset=dataset,
            objective=SaliencyObjective(distillation=1),
            n_epochs=150,
            learning_rate=5e-3,
        )
    images, labels, maps = zip(*(dataset[i] for i in range(12)))
    inputs, target, maps = torch.stack(images), torch.tensor(labels), torch.stack(maps)
    assert 0.3 < maps[:, :, 2:8].mean() < 0.45
    own, other = (network(inputs, (target + i) % 3) for i in (0, 1))
    inside, outside = own[maps == 1], own[maps == 0]
    # Masks have half the resolution of the images, and the edges are blurred.
    assert inside.mean() > 0.6 and outside.mean() < 0.1
    assert other.mean() < own.mean() / 5


def test_output_folder_holds_logs_figures_and_checkpoints(uninterrupted):
    log = pd.read_csv(uninterrupted / "log.csv")
    assert log["step"].tolist() == list(range(N_STEPS))
    assert log["epoch"].tolist() == [step // 3 for step in range(N_STEPS)]
    assert (log["loss"] - log[TERMS].sum(axis=1)).abs().max() < 1e-5
    validation = pd.read_csv(uninterrupted / "validation.csv")
    assert validation["step"].tolist() == list(range(2, N_STEPS + 1, 2))
    figures = [path.name for path in sorted((uninterrupted / "masks").iterdir())]
    assert figures == [f"step-{step:06d}.png" for step in validation["step"]]
    names = {path.name for path in uninterrupted.glob("[!.]*")}
    assert names == {
        "checkpoint.pt",
        "checkpoint.previous.pt",
        "log.csv",
        "masks",
        "validation.csv",
    }
    network = MaskingNetwork.load(uninterrupted / "checkpoint.pt")
    right = mean_masks(network, SmallImages(4), 4).right
    assert right == pytest.approx(validation["right"].iloc[-1], rel=1e-5)


def test_shape_and_range_of_the_mask_grid():
    network = new_network().eval()
    grid = mask_grid(network, SmallImages(3), 3, ([-1] * 3, [4] * 3))
    assert grid.shape == (3, 2 * 100 + 4, 8 * 100 + 4)
    assert grid.min() >= 0 and grid.max() <= 1


@pytest.mark.parametrize("training", [True, False])
def test_state_of_the_black_box_is_restored(training):
    """It is frozen and in eval mode during training, restored also after an error."""
    black_box = BlackBox().train(training)
    black_box.dropout.eval()
    black_box.norm.bias.requires_grad_(False)
    modes = []
    black_box.register_forward_pre_hook(
        lambda module, _: modes.append(
            (module.training, module.norm.weight.requires_grad)
        )
    )
    state = {key: value.clone() for key, value in black_box.state_dict().items()}

    def check():
        assert set(modes) == {(False, False)}
        assert black_box.training == black_box.norm.training == training
        assert not black_box.dropout.training
        assert black_box.norm.weight.requires_grad
        assert not black_box.norm.bias.requires_grad
        assert all(p.grad is None for p in black_box.parameters())
        for key, value in black_box.state_dict().items():
            assert torch.equal(value, state[key])

    small_training(None, black_box=black_box)
    check()
    failing = SmallImages()
    failing.__class__ = type("Failing", (SmallImages,), {"__getitem__": _late_failure})
    with pytest.raises(KeyError):
        small_training(None, black_box=black_box, dataset=failing)
    check()


def _late_failure(self, index):
    self.left -= 1
    if self.left < 10**9 - 20:
        raise KeyError(index)
    return SmallImages(26)[index]


# Errors


class Broken(nn.Module):
    """Black box whose logits become NaN after some calls."""

    def __init__(self, n_calls):
        super().__init__()
        self.left, self.inner = n_calls, BlackBox()

    def forward(self, x):
        self.left -= 1
        return self.inner(x) * (float("nan") if self.left < 0 else 1)


def test_nan_stops_training_and_keeps_the_last_checkpoint(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match="got nan for preservation at step 5"):
        small_training(folder, black_box=Broken(5), validation=SmallImages(4))
    assert load_file(folder / "checkpoint.pt")["step"] == 4
    small_training(folder, validation=SmallImages(4))
    assert same(folder, uninterrupted)


def test_truncated_checkpoint(uninterrupted, tmp_path):
    """Training resumes from the previous one; without a readable one it stops."""
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    newest = folder / "checkpoint.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="truncated.*resumes from checkpoint.previous"):
        small_training(folder, validation=SmallImages(4))
    assert same(folder, uninterrupted)
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (folder / name).write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="truncated or of another kind"):
        small_training(folder)
    assert newest.read_bytes() == b"not a checkpoint"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"network": MaskingNetwork(3, width=16)}, "width = 16 of the network"),
        ({"objective": SaliencyObjective(pixels=1)}, "pixels = 1.0 of the objective"),
        ({"seed": 4}, "seed = 4 of the training, got a checkpoint with 3"),
    ],
)
def test_folder_of_another_run(options, message, uninterrupted):
    before = (uninterrupted / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match=message):
        small_training(uninterrupted, **options)
    assert (uninterrupted / "checkpoint.pt").read_bytes() == before


def test_full_disk_keeps_the_old_checkpoint(uninterrupted, tmp_path):
    """A limit of the file size stands in for a full disk."""
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    names = {path.name: path.read_bytes() for path in folder.glob("*.pt")}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(OSError, match="could not be written .*is unchanged"):
            save_tensors({"tensor": torch.zeros(10_000)}, folder / "checkpoint.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert names == {path.name: path.read_bytes() for path in folder.glob("*.pt")}
    assert not list(folder.glob(".*.partial"))
    state = load_checkpoint(folder)
    assert state is not None and state["step"] == N_STEPS


def test_incomplete_and_later_rows_are_removed(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"step,loss\n0,1.0\n1,0.5\n2,0.25\n3,0.1")
    with StepLog(path, first=2) as log:
        log.append({"step": 2, "loss": 0.75})
    assert path.read_text() == "step,loss\n0,1.0\n1,0.5\n2,0.75\n"


def test_invalid_arguments():
    with pytest.raises(ValueError, match="at least batch_size = 30 images, got 26"):
        small_training(None, batch_size=30)
    with pytest.raises(
        ValueError, match="classes from 0 to 1, as the network has, got 2"
    ):
        small_training(None, network=MaskingNetwork(2, width=8))
    with pytest.raises(ValueError, match="n_epochs must be at least 1"):
        small_training(None, n_epochs=0)
    with pytest.raises(TypeError, match="dataset must have a length"):
        train_masking_network(new_network(), BlackBox(), iter([]))  # type: ignore


def examples(**changes) -> list:
    """Six images of two classes, the fourth of them changed."""
    images = [[torch.rand(3, 16, 16), i % 2] for i in range(6)]
    images[3] = [changes.get("image", images[3][0]), changes.get("label", 1)]
    images[3] += [changes["map"]] if "map" in changes else []
    return images


class Logits(nn.Module):
    """A classifier of two classes with another output."""

    def __init__(self, change) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: torch.Tensor) -> object:
        return self.change(x.mean((2, 3))[:, :2])


@pytest.mark.parametrize(
    "dataset, message",
    [
        (examples(label=0.5), "integers as classes, got 0.5 for image 3"),
        (examples(label=torch.tensor(0.5)), "integers as classes, got 0.5"),
        (examples(label=True), "integers as classes, got True"),
        (examples(label="cat"), "integers as classes, got 'cat'"),
        (examples(label=2), "classes from 0 to 1, as the network has, got 2"),
        (examples(label=-1), "classes from 0 to 1, as the network has, got -1"),
        (
            examples(image=torch.rand(3, 16, 20)),
            "one size, got .3, 16, 16. and .3, 16, 20.",
        ),
        (examples(image=torch.rand(16, 16)), r"\(C, H, W\), got .* \(16, 16\) at 3"),
        (examples(image=torch.rand(1, 16, 16)), r"one size, got"),
        (examples(image=torch.ones(3, 16, 16).long()), "floating-point .* torch.int64"),
        (examples(image=torch.full((3, 16, 16), float("nan"))), "finite, got 768 NaN"),
        (examples(image=[[0.5]]), "images .* got list"),
        (
            examples(map=torch.rand(16, 16)),
            r"maps \(1, 16, 16\), got .* \(16, 16\) at 3",
        ),
        (examples(map=torch.full((1, 16, 16), 2.0)), r"in \[0, 1\], got 2 to 2 at 3"),
        (examples(map=torch.full((1, 16, 16), float("nan"))), "got nan to nan at 3"),
        (examples(map=0.5), "a map .* got float"),
        ([torch.rand(3, 16, 16)] * 6, "images with their classes, got Tensor"),
        (5, "a length and items by number, got int"),
        (set(range(6)), "a length and items by number, got set"),
    ],
)
def test_examples_of_another_form_are_refused(dataset, message):
    """Before the step that they belong to, whether for training or for validation."""
    with pytest.raises((ValueError, TypeError), match=f"^dataset must .*{message}"):
        train_masking_network(
            MaskingNetwork(2, width=2), Logits(torch.neg), dataset, batch_size=6
        )


def test_validation_is_checked_as_well(tmp_path):
    def train(validation, folder) -> None:
        train_masking_network(
            MaskingNetwork(2, width=2),
            Logits(torch.neg),
            examples(),
            folder,
            validation=validation,
            n_epochs=1,
            batch_size=6,
        )

    with pytest.raises(TypeError, match="^validation must have a length"):
        train(5, tmp_path / "a")
    with pytest.raises(ValueError, match="^validation must hold images .* of one size"):
        train(examples(image=torch.rand(3, 8, 8)), tmp_path / "b")


@pytest.mark.parametrize(
    "output, message",
    [
        (lambda x: {"a": x, "b": x}, r"a tensor, .* got dict with a, b"),
        (lambda x: (x, x), r"a tensor, .* got tuple with 0, 1"),
        (lambda x: "cat", r"a tensor or a number, got str"),
        (lambda x: x[:, :1], r"logits \(.*, 2\), got shape \(.*, 1\)"),
        (lambda x: torch.cat([x, x], 1), r"logits \(.*, 2\), got shape \(.*, 4\)"),
        (lambda x: x[:1], r"logits \(.*, 2\), got shape \(1, 2\)"),
        (lambda x: x[:, :, None], r"logits \(.*, 2\), got shape \(.*, 2, 1\)"),
        (lambda x: x.sum(), r"logits \(.*, 2\), got shape \(\)"),
    ],
)
def test_black_boxes_that_return_something_else_are_refused(output, message):
    with pytest.raises((ValueError, TypeError), match=f"^black_box must .*{message}"):
        train_masking_network(
            MaskingNetwork(2, width=2), Logits(output), examples(), batch_size=6
        )


@pytest.mark.parametrize(
    "name, value",
    [
        ("output", ""),
        ("output", 5),
        ("output", __file__),
        ("network", nn.Identity()),
        ("black_box", None),
        ("objective", -1),
        ("n_workers", -1),
        ("learning_rate", float("nan")),
        ("weight_decay", -1.0),
        ("max_gradient_norm", 10**400),
        ("show_progress", "no"),
        ("seed", 2**64),
    ],
)
def test_other_arguments_are_refused(name, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {
        "network": MaskingNetwork(2, width=2),
        "black_box": Logits(torch.neg),
        "dataset": examples(),
        "batch_size": 6,
        name: value,
    }
    with pytest.raises((ValueError, TypeError), match=f"^{name} must "):
        train_masking_network(**given)
    assert not list(tmp_path.iterdir())


def test_training_in_inference_mode():
    networks = []
    for inference in (False, True):
        network = MaskingNetwork(2, width=2)
        torch.manual_seed(0)
        images = examples()
        with torch.inference_mode(inference):
            train_masking_network(
                network, Logits(torch.neg), images, n_epochs=1, batch_size=6
            )
        networks.append(network.state_dict())
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(tmp_path):
    network = new_network().cuda()
    small_training(tmp_path, network=network, black_box=BlackBox().cuda())
    small_training(tmp_path, network=new_network().cuda(), black_box=BlackBox().cuda())
    expected = weights(tmp_path)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value.cpu(), expected[key])
