"""cfgs of other programs, through the commands that meet them."""

import json
import os

import numpy as np
import pytest
from PIL import Image
from toy_data import write_toy
from typer.testing import CliRunner

from yolo9k import darknet
from yolo9k.cli import app
from yolo9k.darknet.weights import Header, conv_layers, write_weights
from yolo9k.datasets.transforms.grey import to_grey
from yolo9k.errors import Yolo9kError
from yolo9k.inference.detector import Detector
from yolo9k.pretrained import DarknetFiles

CFG = """[net]
width=96
height=96
channels=3
{net}
[conv]
batch_normalize=1
filters=4
size=3
stride=8
pad=1
activation=leaky
{conv}
[maxpool]
stride=4
[conv]
filters={filters}
size=1
activation=linear
[region]
anchors=1,1, 2,2
num=2
classes={classes}
softmax=1
{region}
"""


def text(channels=3, **changes):
    values = {"net": "", "conv": "", "region": "", "classes": 6, "filters": 22, **changes}
    return CFG.format(**values).replace("channels=3", f"channels={channels}")


@pytest.fixture
def model(tmp_path):
    """`model(channels=1, net="letter_box=0")` writes a.cfg and random a.weights of such a network."""

    def write(**changes):
        (tmp_path / "a.cfg").write_text(text(**changes))
        network = darknet.load(darknet.parse_cfg(text(**{key: changes[key] for key in changes if key == "channels"})))
        write_weights(tmp_path / "a.weights", conv_layers(network), Header())
        return tmp_path / "a.weights"

    return write


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`run("detect", ...)` returns the exit code and everything printed."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments):
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if isinstance(done.exception, Yolo9kError):  # which `cli.main` prints
            return done.exception.exit_code, str(done.exception)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, " ".join(done.output.split())

    return invoke


def photo(path, size_wh=(120, 40), seed=0):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size_wh[1], size_wh[0], 3), np.uint8)).save(path)
    return path


def detected(run, tmp_path, *options):
    image = photo(tmp_path / "p.png")
    code, output = run("detect", image, "--no-draw", "--conf", "0.001", "--json", "d.json", "--device", "cpu", *options)
    assert code == 0, output
    return json.loads((tmp_path / "d.json").read_text())


def test_the_luma_is_that_of_stb_image():
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [12, 34, 56]]], np.uint8)
    assert to_grey(pixels)[0, :, 0].tolist() == [76, 149, 28, 255, (77 * 12 + 150 * 34 + 29 * 56) >> 8]
    assert (to_grey(pixels) == to_grey(to_grey(pixels))).all()


def test_a_grey_network_sees_the_luma_in_every_command(run, model, tmp_path):
    weights = model(channels=1)
    detector = Detector.load(weights, device="cpu", precision="float32", files=DarknetFiles(tmp_path / "a.cfg"))
    image = np.random.default_rng(0).integers(0, 256, (40, 120, 3), np.uint8)
    colour, grey = (detector(each, conf=0.001) for each in (image, to_grey(image)))
    assert len(colour) > 0
    assert np.array_equal(colour.xyxy, grey.xyxy)
    (tensor, _) = detector.prepare(image, image.shape[1::-1])
    assert tensor.shape == (1, 96, 96)
    assert np.array_equal(tensor[0], darknet.letterbox(to_grey(image), (96, 96))[0])
    detected(run, tmp_path, "--weights", weights)
    toy = write_toy(tmp_path / "toy", {"train": 4, "val": 2}, side_px=64)
    (tmp_path / "a.names").write_text("\n".join(toy.labels))
    common = ("--device", "cpu", "--workers", "0", "--steps", "1", "--batch", "2")
    for options in (("--name", "g"), ("--dry-run",), ("--name", "h", "--weights", weights)):
        code, output = run("train", "--config", "a.cfg", "--dataset", "toy", *common, *options)
        assert code == 0, output
    for arguments in (
        ("eval", "--weights", "runs/g", "--device", "cpu"),
        ("eval", "--weights", weights, "--dataset", "toy", "--device", "cpu"),
        ("weights", "inspect", weights, "--cfg", "a.cfg"),
        ("weights", "convert", weights, "b.pt"),
        ("weights", "convert", "runs/g", "c.weights"),
    ):
        code, output = run(*arguments)
        assert code == 0, output
    assert "channels=1" in (tmp_path / "c.cfg").read_text()


def test_a_grey_classifier_trains_and_predicts(run, tmp_path):
    classifier = text(channels=1).partition("[region]")[0].replace("filters=22", "filters=2") + "[avgpool]\n[softmax]\n"
    (tmp_path / "a.cfg").write_text(classifier)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for index in range(2):
                photo(tmp_path / "set" / split / name / f"{index}.png", seed=index)
    code, output = run(
        "classify", "train", "--config", "a.cfg", "--dataset", "set", "--name", "g", "--steps", "1", "--batch", "2",
        "--device", "cpu", "--workers", "0",
    )  # fmt: skip
    assert code == 0, output
    code, output = run("classify", "predict", "set/val/cat/0.png", "--weights", "runs/g", "--device", "cpu")
    assert code == 0, output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 2}, "a.cfg:4: [net] channels=2: not supported; must be 3 (RGB) or 1 (grey)"),
        ({"channels": 4}, "a.cfg:4: [net] channels=4: not supported"),
        ({"conv": "dilation=2"}, "a.cfg:13: [convolutional] dilation=2: changes what the layer computes"),
        ({"region": "tree=/etc/passwd"}, "[region] tree=/etc/passwd: must be below the folder"),
        ({"filters": 17}, "a.cfg:17: [convolutional] filters=17: [region] requires 22 channels"),
    ],
)
def test_every_command_refuses_a_cfg_alike(run, model, tmp_path, changes, message):
    weights = model()
    (tmp_path / "a.cfg").write_text(text(**changes))
    write_toy(tmp_path / "toy", {"train": 2, "val": 2}, side_px=64)
    photo(tmp_path / "p.png")
    commands = [
        ("detect", "p.png", "--weights", weights),
        ("eval", "--weights", weights, "--dataset", "toy"),
        ("train", "--config", "a.cfg", "--dataset", "toy"),
        ("weights", "convert", weights, "b.pt"),
    ]
    if "tree" not in message:
        commands.append(("weights", "inspect", weights, "--cfg", "a.cfg"))
    for arguments in commands:
        code, output = run(*arguments)
        assert (code, message in output) == (4, True), (arguments, output)
    assert not (tmp_path / "runs").exists()


def test_the_error_of_a_size_names_the_cfg_in_training(run, model, tmp_path):
    model()
    write_toy(tmp_path / "toy", {"train": 2, "val": 2}, side_px=64)
    (tmp_path / "c.cfg").write_text(text().replace("[maxpool]\nstride=4", "[reorg3d]\nstride=4"))
    code, output = run("train", "--config", "c.cfg", "--dataset", "toy", "--size", "100")
    assert code == 2
    assert "size 100x100: c.cfg:15: [reorg3d] stride=4: does not fit" in output


def test_options_of_training_are_warnings_in_detection_and_errors_in_training(run, model, tmp_path, caplog):
    weights = model(net="policy=random\nhue=3\nmosaic=1\nburn_in=1e3", region="thresh=7")
    detected(run, tmp_path, "--weights", weights)
    assert any("the network runs without the options of training" in message for message in caplog.messages)
    assert any("mosaic=1: an option of AlexeyAB's fork" in message for message in caplog.messages)
    write_toy(tmp_path / "toy", {"train": 2, "val": 2}, side_px=64)
    code, output = run("train", "--config", "a.cfg", "--dataset", "toy")
    assert (code, "a.cfg:5: [net] policy=random: not supported" in output) == (4, True)


def test_images_are_stretched_if_the_cfg_or_the_option_says_so(run, model, tmp_path, caplog):
    weights = model()
    boxed = detected(run, tmp_path, "--weights", weights)
    stretched = detected(run, tmp_path, "--weights", weights, "--resize-mode", "stretch")
    assert boxed["images"] != stretched["images"]
    (tmp_path / "a.cfg").write_text(text(net="letter_box=0"))
    assert detected(run, tmp_path, "--weights", weights)["images"] == stretched["images"]
    assert any("letter_box=0: images are stretched to the input size" in message for message in caplog.messages)
    assert detected(run, tmp_path, "--weights", weights, "--resize-mode", "letterbox")["images"] == boxed["images"]
    code, output = run("weights", "convert", weights, "b.pt")
    assert code == 0, output
    assert detected(run, tmp_path, "--weights", "b.pt")["images"] == stretched["images"]


@pytest.mark.parametrize(
    ("value", "where", "message"),
    [
        (float("nan"), "layers.2.conv.weight", "NaN or infinite weights in layers.2.conv"),
        (-1.0, "layers.0.norm.running_var", "negative variances in layers.0.norm"),
        (0.0, "layers.0.conv.weight", "all weights are 0 in layers.0.conv"),
    ],
)
def test_weights_that_cannot_be_right_are_a_warning_in_every_command(
    run, model, tmp_path, caplog, value, where, message
):
    weights = model()
    network = darknet.load(tmp_path / "a.cfg", weights)
    network.state_dict()[where].fill_(value)
    darknet.save(network, weights)
    photo(tmp_path / "p.png")
    write_toy(tmp_path / "toy", {"train": 2, "val": 2}, side_px=64)
    for arguments in (
        ("weights", "inspect", weights, "--cfg", "a.cfg"),
        ("weights", "convert", weights, "b.pt"),
        ("detect", "p.png", "--weights", "b.pt", "--no-draw"),
        ("train", "--config", "a.cfg", "--weights", weights, "--dataset", "toy", "--dry-run", "--batch", "1"),
    ):
        caplog.clear()
        code, _ = run(*arguments)
        assert code in (0, 5), arguments
        assert any(text.endswith(f": {message}") for text in caplog.messages), arguments
    if value != value:
        assert "NaN or infinite values: " in run("weights", "inspect", weights)[1]


def test_files_that_are_none_are_refused_at_once(run, tmp_path):
    photo(tmp_path / "p.png")
    os.mkfifo(tmp_path / "pipe.weights")
    os.mkfifo(tmp_path / "pipe.pt")
    os.mkfifo(tmp_path / "pipe.cfg")
    (tmp_path / "a.weights").write_bytes(Header().to_bytes())
    for arguments in (
        ("detect", "p.png", "--weights", "pipe.weights"),
        ("detect", "p.png", "--weights", "pipe.pt"),
        ("detect", "p.png", "--weights", "a.weights", "--cfg", "pipe.cfg"),
        ("weights", "inspect", "pipe.weights"),
        ("weights", "inspect", "pipe.pt"),
        ("weights", "inspect", "/dev/zero"),
        ("weights", "convert", "pipe.pt", "b.weights"),
    ):
        code, output = run(*arguments)
        assert (code, "; a file is needed" in output) == (4, True), (arguments, output)


def test_another_number_of_classes_is_an_error_that_names_the_cfg(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.cfg").write_text(text(classes=5, filters=20))
    write_toy(tmp_path / "toy", {"train": 2, "val": 2}, side_px=64)
    command = ["train", "--config", "a.cfg", "--dataset", "toy", "--dry-run", "--steps", "1", "--device", "cpu"]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, Yolo9kError)
    assert "a.cfg: it has 5 classes, but the data set has " in str(result.exception)
