"""Videos on the command line: reading frames, explaining and refining clips."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_ext.attr import PNRISE, BOREx
from captum_ext.cli import main
from captum_ext.datasets.clip_files import is_clip, read_frames
from captum_ext.methods import METHODS
from captum_ext.zoo import SIGN_CLASSES, FrameAverage, load, sign_scene, sign_video

N_FRAMES = 8
VIDEO = sign_video(0, N_FRAMES, occluded=False)
FRAMES = VIDEO.image.permute(1, 2, 3, 0).mul(255).round().byte().numpy()


def inputs_and_probabilities() -> tuple[torch.Tensor, Callable]:
    """What the command makes of the frames: inputs (1, 3, T, H, W) and scores."""
    signs = load("signs")
    frames = [signs.preprocess(Image.fromarray(frame)) for frame in FRAMES]
    model = FrameAverage(signs.model)
    return torch.stack(frames, 1)[None], lambda x: model(x).softmax(1)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.npz"
    np.savez(path, frames=FRAMES)
    return path


def numbered(n_frames: int) -> np.ndarray:
    """Frames of one gray each, (T, 32, 48, 3) uint8."""
    grays = np.arange(n_frames, dtype=np.uint8) * 10 + 5
    return np.broadcast_to(grays[:, None, None, None], (n_frames, 32, 48, 3))


def write_clip(frames: np.ndarray, path: Path, rotation: int = 0) -> None:
    if path.suffix == ".npz":
        np.savez(path, frames=frames)
    elif path.suffix == ".gif":
        first, *rest = map(Image.fromarray, frames)
        first.save(path, save_all=True, append_images=rest)
    else:
        av = pytest.importorskip("av", reason="the extra video is not installed")
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
            if rotation:
                stream.set_display_rotation(rotation)
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame))
                container.mux(stream.encode(picture))
            container.mux(stream.encode())


@pytest.mark.parametrize("suffix", [".npz", ".gif", ".mp4", ".avi"])
@pytest.mark.parametrize(
    "n_frames, n_wanted, expected",
    [
        (20, 8, [0, 3, 5, 8, 11, 14, 16, 19]),
        (9, 9, range(9)),
        (3, 8, [0, 0, 1, 1, 1, 1, 2, 2]),
    ],
)
def test_frames_are_evenly_spaced(suffix, n_frames, n_wanted, expected, tmp_path):
    path = tmp_path / f"clip{suffix}"
    write_clip(numbered(n_frames), path)
    assert is_clip(path)
    frames = read_frames(path, n_wanted)
    assert all(frame.size == (48, 32) and frame.mode == "RGB" for frame in frames)
    grays = [float(np.asarray(frame).mean()) for frame in frames]
    np.testing.assert_allclose(grays, [10 * i + 5 for i in expected], atol=3)


def test_pictures_of_phones_are_turned(tmp_path):
    av = pytest.importorskip("av", reason="the extra video is not installed")
    if not hasattr(av.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV writes no rotation")
    frames = np.zeros((2, 32, 48, 3), np.uint8)
    frames[:, :, :16] = 255
    path = tmp_path / "phone.mp4"
    write_clip(frames, path, rotation=90)
    turned = np.asarray(read_frames(path, 2)[0]).mean(2)
    # Counterclockwise: what was on the left is below.
    assert turned.shape == (48, 32)
    assert turned[-12:].mean() > 240 and turned[:24].mean() < 15


def test_gif_with_one_frame_is_an_image(tmp_path):
    path = tmp_path / "still.gif"
    write_clip(numbered(1), path)
    assert not is_clip(path) and not is_clip(tmp_path / "photo.jpg")


def test_frame_average_is_the_mean_of_probabilities():
    signs = load("signs")
    video = signs.normalize(sign_video(0, 4).image)[None]
    model = FrameAverage(signs.model)
    assert not model.training and FrameAverage(torch.nn.Linear(1, 1)).training
    batch = torch.cat([video, video.flip(2).roll(9, 4)])
    with torch.no_grad():
        found = model(batch).softmax(1)
        expected = [signs.model(v.movedim(1, 0)).softmax(1).mean(0) for v in batch]
    torch.testing.assert_close(found, torch.stack(expected))
    torch.testing.assert_close(model(batch).exp(), found)


@pytest.mark.parametrize("method", [n for n, m in METHODS.items() if m.explains_video])
def test_explain_writes_strip_gif_and_map(method, clip, tmp_path, capsys):
    arguments = ["explain", str(clip), "--model", "signs", "--method", method]
    if "n_masks" in METHODS[method].options():
        arguments += ["--n-masks", "64"]
    arguments += ["--frames", "8", "-o", str(tmp_path / "out.png"), "--save-map"]
    assert main([*arguments, str(tmp_path / "map.npy")]) == 0
    printed = capsys.readouterr().out
    assert f"{SIGN_CLASSES[VIDEO.label]}: probability" in printed
    assert " pass" in printed
    maps = np.load(tmp_path / "map.npy")
    assert maps.shape == (3, N_FRAMES, 96, 96) and maps.std() > 0
    with Image.open(tmp_path / "out.png") as strip:
        assert strip.width > 3 * strip.height
    with Image.open(tmp_path / "out.gif") as gif:
        assert gif.n_frames == N_FRAMES and gif.width > 2 * gif.height


def test_map_equals_that_of_the_library_and_follows_the_sign(clip, tmp_path):
    saved = tmp_path / "map.pt"
    arguments = ["explain", str(clip), "--model", "signs", "--frames", "8"]
    arguments += ["-o", str(tmp_path / "out.png"), "--save-map", str(saved)]
    assert main([*arguments, "--n-masks", "102", "--seed", "3"]) == 0
    maps = torch.load(saved, weights_only=True)
    inputs, probabilities = inputs_and_probabilities()
    expected = PNRISE(probabilities).attribute(
        inputs,
        target=VIDEO.label,
        n_masks=102,
        seed=3,
        estimator="field",
        layout="superpixels",
    )
    torch.testing.assert_close(maps, expected[0], atol=1e-7, rtol=1e-3)
    for values, sign in zip(maps[0], VIDEO.masks):
        assert values[sign].mean() > 4 * values[~sign].mean().abs()


@pytest.mark.parametrize("prior", [None, "rise", "map.npy", "map.pt"])
def test_refine(prior, clip, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # RISE by name has a thousand masks.
    rise = METHODS["rise"]
    few = rise._replace(defaults={"n_masks": 20})
    monkeypatch.setitem(METHODS, "rise", few)
    cells = torch.rand(1, 4, 7, 7, generator=torch.Generator().manual_seed(0))
    np.save("map.npy", cells[0].numpy())
    torch.save(cells, "map.pt")
    arguments = ["refine", str(clip), "--model", "signs", "--n-iterations", "4"]
    arguments += ["--frames", "8"] + ([] if prior is None else ["--prior", prior])
    assert main([*arguments, "--save-map", "refined.npy"]) == 0
    assert "BOREx: " in capsys.readouterr().out
    refined = np.load("refined.npy")
    assert refined.shape == (3, N_FRAMES, 96, 96)
    assert Path("clip-refined.png").is_file() and Path("clip-refined.gif").is_file()


def test_prior_from_a_file_is_used(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("sign.npy", VIDEO.masks.float().numpy())
    arguments = ["refine", str(clip), "--model", "signs", "--n-iterations", "3"]
    arguments += ["--frames", "8", "--prior", "sign.npy", "--save-map", "refined.pt"]
    assert main(arguments) == 0
    inputs, probabilities = inputs_and_probabilities()
    prior = VIDEO.masks[None, None].float()
    expected = BOREx(probabilities).attribute(
        inputs, prior, target=VIDEO.label, n_iterations=3
    )
    refined = torch.load("refined.pt", weights_only=True)
    torch.testing.assert_close(refined, expected[0], atol=1e-7, rtol=1e-3)


@pytest.mark.parametrize(
    "change, words",
    [
        (
            {"--method": "cameras"},
            "--method must be one of pn-rise, rise, borex, occlusion, ",
        ),
        ({"--method": "grad-cam++"}, "for a video, got 'grad-cam++'"),
        ({"--method": "mc-rise"}, "for a video, got 'mc-rise'"),
        ({"--method": "rise,gradient"}, "for a video, got 'rise, gradient'"),
        ({"--method": "iterative-mask"}, "for a video, got 'iterative-mask'"),
        ({"--method": "masking-model"}, "for a video, got 'masking-model'"),
        ({"--frames": "4"}, "--frames must be at least 8, got 4"),
        ({"image": "photo.png", "--frames": "8"}, "--frames must be used with a video"),
        ({"image": "missing.mp4"}, "image must be an existing file, got 'missing.mp4'"),
        ({"image": "missing.gif"}, "image must be an existing file, got 'missing.gif'"),
        ({"image": "text.gif"}, "image must be an image file, got 'text.gif'"),
        ({"image": "text.npz"}, "image must be a video that can be read"),
        ({"image": "other.npz"}, "frames is not a file in the archive"),
        ({"image": "floats.npz"}, "(T, H, W, 3) uint8, got (2, 8, 8, 3) float64"),
        ({"image": "empty.npz"}, "no frames"),
        ({"image": "moving.gif", "-o": "moving.png"}, "another name than the image"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_errors_are_one_line(change, words, clip, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pixels = sign_scene(0).image.permute(1, 2, 0).mul(255).byte().numpy()
    Image.fromarray(pixels).save("photo.png")
    for name in ("text.gif", "text.npz"):
        Path(name).write_text("not a video")
    write_clip(numbered(3), Path("moving.gif"))
    np.savez("other.npz", images=numbered(2))
    np.savez("floats.npz", frames=np.zeros((2, 8, 8, 3)))
    np.savez("empty.npz", frames=numbered(0))
    options = {"image": str(clip), "--model": "signs", **change}
    image = options.pop("image")
    assert main(["explain", image, *(w for pair in options.items() for w in pair)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("captum-ext: error: ") and error.count("\n") == 1
    assert words in error


@pytest.mark.parametrize(
    "prior, words",
    [
        ("grad-cam++", "--prior must be one of pn-rise, rise, occlusion, gradient"),
        ("flat.npy", "map (C, T, h, w) or (T, h, w), got (7, 7)"),
    ],
)
def test_priors_that_a_video_cannot_have(prior, words, clip, monkeypatch, capsys):
    monkeypatch.chdir(clip.parent)
    np.save("flat.npy", np.zeros((7, 7)))
    assert main(["refine", str(clip), "--model", "signs", "--prior", prior]) == 2
    assert words in capsys.readouterr().err


def test_a_missing_reader_names_its_extra(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"")
    assert main(["explain", str(path), "--model", "signs"]) == 2
    assert "run: pip install '.[video]'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["archery_k400.avi", "archery_k400_16x224.npz"])
def test_real_clip_and_network(name, tmp_path, capsys):
    if "CAPTUM_EXT_DATA" not in os.environ:
        pytest.skip("CAPTUM_EXT_DATA is unset: no real clips and networks")
    data = Path(os.environ["CAPTUM_EXT_DATA"])
    if not name.endswith(".npz"):
        pytest.importorskip("av", reason="the extra video is not installed")
    arguments = ["explain", str(data / "video" / name), "--model", "mobilenet_v2"]
    arguments += ["--weights", str(data / "models" / "mobilenet_v2.pt"), "--frames"]
    arguments += ["8", "--n-masks", "12", "-o", str(tmp_path / "out.png")]
    assert main(arguments) == 0
    assert "class 456, bow: probability" in capsys.readouterr().out
