"""Training of a masking network: exact, resumable, shared out, safe from errors."""

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
    Place,
    SmallImages,
    new_network,
    small_training,
    work,
)
from several_processes import exit_codes
from torch import nn

from captum_ext._files import save_tensors
from captum_ext.masking import MaskingNetwork, SaliencyObjective, train_masking_network
from captum_ext.masking.checkpoints import load_checkpoint, load_file
from captum_ext.masking.draws import Place as At
from captum_ext.masking.draws import Samples, StepSampler
from captum_ext.masking.record import StepTable, mask_grid, mean_masks

TERMS = ["smoothness", "area", "preservation", "destruction", "selection"]


@pytest.fixture(scope="module")
def processes():
    """New processes in milliseconds, forked from one that has loaded everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["captum_ext.masking"])
    return context


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the processes that are killed have it: sums are rounded alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    small_training(folder, validation=SmallImages(4))
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint.pt")["network"]


def flat(value) -> list:
    """All numbers and tensors of a checkpoint, in their order."""
    if isinstance(value, dict):
        return [each for key in sorted(value, key=str) for each in flat(value[key])]
    if isinstance(value, (list, tuple)):
        return [each for entry in value for each in flat(entry)]
    return [value]


def same(one: Path, other: Path) -> bool:
    """Bit for bit: network, optimizer, schedule and tables."""
    pairs = zip(*(flat(load_file(f / "checkpoint.pt")) for f in (one, other)))
    tables = [
        (one / name).read_bytes() == (other / name).read_bytes()
        for name in ("log.csv", "validation.csv")
    ]
    return all(tables) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs
    )


def start(
    processes,
    folder: Path,
    places: list[Place | None],
    meeting: Path,
    dtype: torch.dtype = torch.float32,
):
    """One start of the training in as many processes; their exit codes."""
    started = [
        processes.Process(
            target=work, args=(folder, place, rank, len(places), meeting, dtype)
        )
        for rank, place in enumerate(places)
    ]
    return exit_codes(started)


# The same again


def test_same_seed_same_network_and_the_global_generator_untouched():
    state = torch.get_rng_state()
    one, same_seed = small_training(None), small_training(None)
    other = small_training(None, seed=4)
    assert torch.equal(state, torch.get_rng_state())
    a, b, c = (network.state_dict() for network in (one, same_seed, other))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)
    assert not one.training


def test_workers_change_nothing():
    a, b = (small_training(None, n_workers=n).state_dict() for n in (0, 2))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_killed_at_random_places(processes, undisturbed, tmp_path):
    """Between steps, and within checkpoints, figures and tables, again and again."""
    rng, folder = random.Random(0), tmp_path / "run"
    for _ in range(8):
        place = Place(rng.randrange(8, 50), rng.randrange(14))
        codes = start(processes, folder, [place], tmp_path / "meeting")
        if codes == [0]:
            break
        assert codes == [-signal.SIGKILL]
    assert start(processes, folder, [None], tmp_path / "meeting") == [0]
    assert same(folder, undisturbed)


@pytest.mark.parametrize("n_files", range(6))
def test_killed_at_each_file(n_files, processes, undisturbed, tmp_path):
    """Of one checkpoint with its figure and tables, and of the next."""
    folder = tmp_path / "run"
    place = Place(10**9, n_files)
    codes = start(processes, folder, [place], tmp_path / "meeting")
    assert codes == [-signal.SIGKILL]
    assert start(processes, folder, [None], tmp_path / "meeting") == [0]
    assert same(folder, undisturbed)


def test_a_finished_training_is_not_done_again(undisturbed, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)

    def fail(x):
        raise AssertionError("the classifier was asked")

    network = small_training(folder, black_box=fail)
    expected = weights(undisturbed)
    assert all(torch.equal(v, expected[k]) for k, v in network.state_dict().items())
    assert same(folder, undisturbed)


# Shared out


@pytest.fixture(scope="module")
def in_double(tmp_path_factory) -> Path:
    """Of one process, in which sums in another order hardly differ."""
    folder = tmp_path_factory.mktemp("double")
    small_training(folder, torch.float64, validation=SmallImages(4, torch.float64))
    return folder


def close(one: Path, other: Path) -> None:
    expected = weights(other)
    for key, value in weights(one).items():
        torch.testing.assert_close(value, expected[key], atol=1e-6, rtol=1e-5)
    for name in ("log.csv", "validation.csv"):
        tables = (pd.read_csv(folder / name) for folder in (one, other))
        pd.testing.assert_frame_equal(*tables, rtol=1e-5, atol=1e-6)


def test_two_ranks_do_what_one_does(processes, in_double, tmp_path):
    """Each with half of the batch."""
    folder = tmp_path / "run"
    codes = start(processes, folder, [None] * 2, tmp_path / "meeting", torch.float64)
    assert codes == [0, 0]
    close(folder, in_double)


@pytest.mark.parametrize("n_ranks", [1, 2, 3])
def test_another_number_of_ranks_goes_on(n_ranks, processes, in_double, tmp_path):
    """Three ranks have unequal shares of eight images."""
    folder = tmp_path / "run"
    places: list[Place | None] = [Place(20, 10**9)] * n_ranks
    codes = start(processes, folder, places, tmp_path / "first", torch.float64)
    assert -signal.SIGKILL in codes
    assert 0 < load_file(folder / "checkpoint.pt")["step"] < N_STEPS
    others = [None] * (3 - n_ranks or 2)
    codes = start(processes, folder, others, tmp_path / "second", torch.float64)
    assert not any(codes)
    close(folder, in_double)


def test_shares_of_a_step_are_the_step():
    def steps(first=0, rank=0, world_size=1):
        return list(StepSampler(10, 4, 6, 0, first, rank, world_size))

    whole = steps()
    assert len(whole) == 6 and all(len(step) == 4 for step in whole)
    for epoch in range(3):
        places = [place for step in whole[2 * epoch : 2 * epoch + 2] for place in step]
        assert len(set(places)) == 8 and {place.epoch for place in places} == {epoch}
    for world_size in (2, 3, 5):
        shares = [steps(2, rank, world_size) for rank in range(world_size)]
        joined = [sum(parts, []) for parts in zip(*shares)]
        assert joined == whole[2:]


def test_fake_classes_are_others_and_as_often_as_asked():
    samples = Samples(SmallImages(), 5, 0.3, seed=0)
    drawn = [(i % 3, samples[At(epoch, i)]) for epoch in range(40) for i in range(26)]
    assert all(s.label == label for label, s in drawn)
    fakes = [s for _, s in drawn if s.target != s.label]
    assert 0.25 < len(fakes) / len(drawn) < 0.35
    assert {s.target for s in fakes if s.label == 0} == {1, 2, 3, 4}


# What it learns, keeps and leaves alone


@torch.no_grad()
def test_it_learns_to_look_at_the_class():
    """The mask lies on the pattern, and is small for patterns that are not there."""
    with torch.enable_grad():
        network = small_training(None, n_epochs=200, learning_rate=5e-3)
    dataset = SmallImages(12)
    found = mean_masks(network, dataset, 12)
    assert found.absent < found.right / 3
    # As mirrored as the dataset happens to be: look at rows only.
    inputs = torch.stack([dataset[i][0] for i in range(12)])
    masks = network(inputs, torch.arange(12) % 3)
    assert masks[:, :, 2:8].mean() > 3 * masks[:, :, 10:].mean()


def test_folder_holds_tables_figures_and_checkpoints(undisturbed):
    log = pd.read_csv(undisturbed / "log.csv")
    assert log["step"].tolist() == list(range(N_STEPS))
    assert log["epoch"].tolist() == [step // 3 for step in range(N_STEPS)]
    assert (log["loss"] - log[TERMS].sum(axis=1)).abs().max() < 1e-5
    judged = pd.read_csv(undisturbed / "validation.csv")
    assert judged["step"].tolist() == list(range(2, N_STEPS + 1, 2))
    figures = [path.name for path in sorted((undisturbed / "masks").iterdir())]
    assert figures == [f"step-{step:06d}.png" for step in judged["step"]]
    names = {path.name for path in undisturbed.iterdir()}
    assert names == {
        "checkpoint.pt",
        "checkpoint.previous.pt",
        "log.csv",
        "masks",
        "validation.csv",
    }
    network = MaskingNetwork.load(undisturbed / "checkpoint.pt")
    right = mean_masks(network, SmallImages(4), 4).right
    assert right == pytest.approx(judged["right"].iloc[-1], rel=1e-5)


def test_grid_shows_image_masks_and_what_is_kept():
    network = new_network().eval()
    grid = mask_grid(network, SmallImages(3), 3, ([-1] * 3, [4] * 3))
    assert grid.shape == (3, 2 * 100 + 4, 8 * 100 + 4)
    assert grid.min() >= 0 and grid.max() <= 1


@pytest.mark.parametrize("training", [True, False])
def test_black_box_is_as_it_was(training):
    """Frozen and in eval mode meanwhile, after an error too."""
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


# What can go wrong


class Broken(nn.Module):
    """Its logits become NaN after some calls."""

    def __init__(self, n_calls):
        super().__init__()
        self.left, self.inner = n_calls, BlackBox()

    def forward(self, x):
        self.left -= 1
        return self.inner(x) * (float("nan") if self.left < 0 else 1)


def test_nan_stops_training_and_keeps_the_last_checkpoint(undisturbed, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match="got nan for preservation at step 5"):
        small_training(folder, black_box=Broken(5), validation=SmallImages(4))
    assert load_file(folder / "checkpoint.pt")["step"] == 4
    small_training(folder, validation=SmallImages(4))
    assert same(folder, undisturbed)


def test_truncated_checkpoint(undisturbed, tmp_path):
    """The one before is used; if that cannot be read either, nothing is."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    newest = folder / "checkpoint.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="truncated.*resumes from checkpoint.previous"):
        small_training(folder, validation=SmallImages(4))
    assert same(folder, undisturbed)
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (folder / name).write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="truncated or something else"):
        small_training(folder)
    assert newest.read_bytes() == b"no checkpoint"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"network": MaskingNetwork(3, width=16)}, "width = 16 of the network"),
        ({"objective": SaliencyObjective(pixels=1)}, "pixels = 1.0 of the objective"),
        ({"seed": 4}, "seed = 4 of the training, got a checkpoint with 3"),
    ],
)
def test_folder_of_another_training(options, message, undisturbed):
    before = (undisturbed / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match=message):
        small_training(undisturbed, **options)
    assert (undisturbed / "checkpoint.pt").read_bytes() == before


def test_full_disk_leaves_the_old_checkpoint(undisturbed, tmp_path):
    """As far as a process can see, a limit of a file's size is a full disk."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
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
    assert not list(folder.glob(".*"))
    state = load_checkpoint(folder)
    assert state is not None and state["step"] == N_STEPS


def test_torn_and_later_rows_are_cut_off(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"step,loss\n0,1.0\n1,0.5\n2,0.25\n3,0.1")
    with StepTable(path, first=2) as table:
        table.append({"step": 2, "loss": 0.75})
    assert path.read_text() == "step,loss\n0,1.0\n1,0.5\n2,0.75\n"


def test_arguments_that_cannot_be_trained():
    with pytest.raises(ValueError, match="at least one batch of 30 images, got 26"):
        small_training(None, batch_size=30)
    with pytest.raises(ValueError, match="classes from 0 to 1 as the network, got 2"):
        small_training(None, network=MaskingNetwork(2, width=8))
    with pytest.raises(ValueError, match="n_epochs must be at least 1"):
        small_training(None, n_epochs=0)
    with pytest.raises(TypeError, match="dataset must have a length"):
        train_masking_network(new_network(), BlackBox(), iter([]))  # type: ignore


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(tmp_path):
    network = new_network().cuda()
    small_training(tmp_path, network=network, black_box=BlackBox().cuda())
    small_training(tmp_path, network=new_network().cuda(), black_box=BlackBox().cuda())
    expected = weights(tmp_path)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value.cpu(), expected[key])
