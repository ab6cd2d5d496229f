"""Exported files give the detections and probabilities of PyTorch."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from export_models import FLAT, TREE
from PIL import Image

from yolo9k import checkpoint
from yolo9k.config import load_config
from yolo9k.errors import ConfigError, WeightsError
from yolo9k.export import detect_example
from yolo9k.export import export as module
from yolo9k.export.beside import write_beside
from yolo9k.export.export import export_weights
from yolo9k.export.parity import sample_images
from yolo9k.exported import ExportInfo
from yolo9k.inference.classifier import ImageClassifier
from yolo9k.inference.detector import Detector
from yolo9k.inference.resize import FITS, prepare
from yolo9k.wordtree.softmax import HierarchicalSoftmax

MODELS = {
    "flat": ("name: yolov2-tiny, width: 0.1", FLAT),
    "logistic": ("name: yolov2, width: 0.1, classes: logistic, location: offset", FLAT),
    "tree": ("name: yolo9000, width: 0.1", TREE),
    "backbone": ("name: yolov2-tiny, backbone: shufflenet_v2_x0_5", TREE),
}


@pytest.fixture(scope="session")
def export(stored, images, tmp_path_factory):
    """Return the weights and the exported file of a model; each is made once."""
    made = {}

    def make(name, format_name="onnx", **options):
        key = name, format_name, *sorted(options.items())
        if key not in made:
            folder = tmp_path_factory.mktemp("export")
            weights = stored(*MODELS.get(name, ("", FLAT if name == "classifier" else TREE)))
            checkpoint.save(weights, folder / "a.pt")
            target = folder / ("a.onnx" if format_name == "onnx" else "a.xml")
            made[key] = folder / "a.pt", export_weights(weights, "a", target, format_name, images=images, **options)
        return made[key]

    return make


def assert_equal(found, expected, atol=1e-5):
    assert len(found) == len(expected) > 0
    assert found.label.tolist() == expected.label.tolist()
    assert np.allclose(found.score, expected.score, atol=atol)
    assert np.allclose(found.xyxy, expected.xyxy, atol=1e3 * atol)
    if expected.path is not None:
        assert np.allclose(found.path, expected.path, atol=atol, equal_nan=True)


CASES = [
    *[(name, "onnx", {}) for name in MODELS],
    ("flat", "openvino", {}),
    ("tree", "openvino", {}),
    ("tree", "onnx", {"form": "raw", "batch": 3}),
    ("flat", "openvino", {"form": "raw", "size_wh": (64, 64)}),
    ("flat", "onnx", {"batch": 3}),
]


@pytest.mark.parametrize(("name", "format_name", "options"), CASES, ids=lambda value: str(value))
def test_an_exported_detector_detects_what_pytorch_detects(export, images, name, format_name, options):
    weights, exported = export(name, format_name, **options)
    expected = Detector.load(weights, device="cpu", precision="float32", size_wh=options.get("size_wh"))
    found = Detector.load(exported.path, precision="float32")
    assert found.size_wh == expected.size_wh
    atol = 1e-4 if name == "backbone" else 1e-5  # many layers with random weights amplify rounding
    conf = 0.001 if name == "backbone" else 0.02
    for thresholds in ({"conf": 5 * conf}, {"conf": conf, "iou": 0.2, "max_detections": 7}):
        for batch in (1, 3):
            pairs = zip(
                found.stream(images, batch=batch, **thresholds),
                expected.stream(images, batch=batch, **thresholds),
                strict=True,
            )
            for each, other in pairs:
                assert_equal(each, other, atol)
    image, classes = images[1], ["dog"]
    assert_equal(found(image, conf=conf, classes=classes), expected(image, conf=conf, classes=classes), atol)


def test_another_batch_size_than_requested_is_said(export, images, caplog):
    caplog.set_level("INFO")
    for name, options, used in (("flat", {"batch": 3}, 3), ("tree", {}, 1), ("tree", {"form": "raw", "batch": 3}, 3)):
        detector = Detector.load(export(name, "onnx", **options)[1].path)
        caplog.clear()
        list(detector.stream(images, batch=4))
        assert [record.message.split(":")[0] for record in caplog.records] == [f"batch {used} instead of 4"]
        caplog.clear()
        detector(images[0])
        assert not caplog.records


def test_the_descent_follows_its_threshold(export, images):
    weights, exported = export("tree")
    expected, found = Detector.load(weights, device="cpu", precision="float32"), Detector.load(exported.path)
    labels = set()
    for hier_thresh in (0.05, 0.3, 0.9):
        of_torch, of_file = (each.class_decoder(hier_thresh=hier_thresh) for each in (expected, found))
        detections = found(images[1], conf=0.02, class_decoder=of_file)
        assert_equal(detections, expected(images[1], conf=0.02, class_decoder=of_torch))
        labels.add(tuple(detections.label))
    assert len(labels) > 1
    with pytest.raises(ConfigError, match="leaves-only, under and tree-mode: not in an exported file"):
        found.class_decoder(leaves_only=True)
    with pytest.raises(ConfigError, match="evaluate the weights"):
        found.multi_label_decoder([0])


@pytest.mark.parametrize(("name", "engine"), [(n, e) for n in ("flat", "tree") for e in ("onnxruntime", "openvino")])
def test_extreme_thresholds(export, images, name, engine):
    weights, exported = export(name)
    expected = Detector.load(weights, device="cpu", precision="float32")
    found = Detector.load(exported.path, engine=engine, precision="float32")
    assert len(found(images[0], conf=1)) == 0
    for thresholds in ({"conf": 0.02, "iou": 0}, {"conf": 0.02, "iou": 1}):
        assert_equal(found(images[0], **thresholds), expected(images[0], **thresholds))
    assert len(found(images[0], conf=1)) == 0  # after a batch that had some


def test_classes_and_labels_of_a_decoder_both_select(export, images):
    weights, exported = export("flat")
    expected, found = Detector.load(weights, device="cpu", precision="float32"), Detector.load(exported.path)
    for nodes, classes in (([0, 2], ["dog"]), ([0, 1], ["dog"]), ([0, 1], [])):
        pair = [
            detector(images[1], conf=0.02, classes=classes, class_decoder=detector.multi_label_decoder(nodes))
            for detector in (expected, found)
        ]
        assert pair[0].label.tolist() == pair[1].label.tolist()
    assert len(pair[0]) > 0


def test_one_model_in_two_runtimes(export, images):
    _, exported = export("tree")
    by_onnxruntime, by_openvino = (
        Detector.load(exported.path, engine=engine, precision="float32") for engine in ("onnxruntime", "openvino")
    )
    assert (by_onnxruntime.engine.name, by_openvino.engine.name) == ("onnxruntime", "openvino")
    thresholds = {"conf": 0.02, "iou": 0.3}  # no defaults
    assert_equal(by_openvino(images[0], **thresholds), by_onnxruntime(images[0], **thresholds))


def test_signals_are_handled_after_sessions_of_openvino_have_ended(export):
    _, exported = export("tree")
    code = (
        "import faulthandler, gc, signal\n"
        "from pathlib import Path\n"
        "from yolo9k.inference.engines.session import open_session\n"
        "faulthandler.enable()\n"
        f"sessions = [open_session(Path({str(exported.path)!r}), 'openvino') for _ in range(3)]\n"
        "while sessions:\n"
        "    del sessions[0]\n"
        "    gc.collect()\n"
        "    signal.signal(signal.SIGTERM, lambda *_: print('handled'))\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["handled"] * 3


def test_thresholds_have_defaults(export, images):
    import onnxruntime

    _, exported = export("tree")
    session = onnxruntime.InferenceSession(exported.path)
    detector = Detector.load(exported.path)
    image = detector.prepare(images[1], images[1].shape[1::-1])[0][None].astype(np.float32) / 255
    assert len(session.run(None, {"image": image})[1]) == len(detector(images[1]))


@pytest.mark.parametrize("form", ["probabilities", "raw"])
@pytest.mark.parametrize("name", ["classifier", "tree classifier"])
def test_an_exported_classifier(export, images, name, form):
    weights, exported = export(name, "onnx", form=form)
    expected, found = (
        ImageClassifier.load(weights, device="cpu", precision="float32"),
        ImageClassifier.load(exported.path),
    )
    for image in images:
        each, other = found(image), expected(image)
        assert each.label.tolist() == other.label.tolist()
        assert np.allclose(each.score, other.score, atol=1e-5)
        assert each.descent_label == other.descent_label
    with pytest.raises(WeightsError, match="a classifier, not a detector"):
        Detector.load(exported.path)


def test_the_last_pool_of_the_tinies_pads_itself(export):
    _, exported = export("flat")
    nodes = onnx.load(exported.path).graph.node
    assert "Pad" not in {node.op_type for node in nodes}
    pads = [
        list(each.ints) for node in nodes if node.op_type == "MaxPool" for each in node.attribute if each.name == "pads"
    ]
    assert pads[-1] == [0, 0, 1, 1]
    assert "BatchNormalization" not in {node.op_type for node in nodes}


def test_a_tree_computes_class_logits_of_candidates_only(export):
    _, exported = export("tree")
    initialisers = {each.name: list(each.dims) for each in onnx.load(exported.path).graph.initializer}
    kernels = [dims for name, dims in initialisers.items() if name.startswith("head") and len(dims) == 4]
    assert [dims[0] for dims in kernels] == [2 * 5]  # one convolution, of the boxes


def test_a_file_tells_what_it_is_and_nothing_of_this_machine(export):
    _, exported = export("tree")
    model = onnx.load(exported.path)
    facts = json.loads(next(each.value for each in model.metadata_props if each.key == "yolo9k"))
    assert facts["labels"]["names"][5] == "terrier"
    assert facts["input"]["size_wh"] == [96, 64]
    assert facts["anchors"] == [[1, 1], [2, 2]]
    assert b"site-packages" not in exported.path.read_bytes()
    assert b"/yolo9k/" not in exported.path.read_bytes()


BLOCKED = """
import sys, runpy
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "albumentations"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
if sys.argv[1].endswith(".py"):
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    __import__("yolo9k.cli").cli.main()
"""


def run_without_torch(*arguments):
    command = [sys.executable, "-c", BLOCKED, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


EXAMPLES = [("tree", "onnx", None), ("flat", "openvino", "raw"), ("tree", "openvino", None)]


@pytest.mark.parametrize(("name", "format_name", "form"), EXAMPLES)
def test_the_example_needs_no_torch_and_finds_the_same(export, tmp_path, name, format_name, form):
    options = {"form": form, "size_wh": (64, 64)} if form else {}
    _, exported = export(name, format_name, **options)
    for path in exported.path.parent.glob("a.[!p]*"):
        shutil.copy(path, tmp_path)
    write_beside(tmp_path / exported.path.name, exported.info)
    image = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    image = image if form else np.concatenate([image, image[:, :32]], axis=1)  # of the input's size: nothing is resized
    Image.fromarray(image).save(tmp_path / "a.png")
    lines = run_without_torch(tmp_path / "detect.py", tmp_path / "a.png", "--conf", "0.05").splitlines()
    expected = Detector.load(exported.path, precision="float32")(image, conf=0.05)
    assert [line.split()[1] for line in lines] == [expected.name(int(label)) for label in expected.label]
    assert np.allclose([float(line.split()[2]) for line in lines], expected.score, atol=1e-3)
    readme = (tmp_path / "README.md").read_text()
    assert "python detect.py image.jpg" in readme
    assert f'MODEL = "{exported.path.name}"' in (tmp_path / "detect.py").read_text()


FITTINGS = [
    ("resize: area", 5e-2),  # Pillow's box filter takes whole pixels, OpenCV's averages also parts of them
    ("resize: darknet", 1e-4),
    ("resize: darknet, resize_mode: stretch", 1e-2),  # to whole levels of 256
]


@pytest.mark.parametrize(("data", "atol"), FITTINGS)
def test_the_example_fits_images_as_the_detector_does(stored, data, atol):
    size, (w, h) = (64, 96), (50, 131)
    config = load_config(None, [f"data={{{data}, size: 64x96}}"])
    info = ExportInfo("raw", config, FLAT, 32, ((1.0, 1.0),))
    smooth = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    image = np.asarray(Image.fromarray(smooth).resize((w, h), Image.Resampling.BICUBIC))
    fit = FITS[config.data.resize, config.data.resize_mode](size)
    expected = prepare(image, fit, config.data.channels)
    values, to_image = detect_example.prepare(Image.fromarray(image), info.to_dict())
    expected = expected / np.float32(255) if expected.dtype == np.uint8 else expected
    assert values[0].shape == expected.shape
    difference = np.abs(values[0] - expected)
    assert difference.max() <= atol
    assert difference.mean() <= 5e-3
    boxes = np.array([[3, 20, 50, 70], [0, 0, 64, 96]], np.float32)
    assert np.allclose(to_image(boxes), fit.undo(boxes, (w, h)), atol=1e-3)


def test_the_example_multiplies_probabilities_along_the_path():
    logits = np.random.default_rng(0).normal(size=len(TREE))
    expected = HierarchicalSoftmax(TREE).absolute(torch.from_numpy(logits)[None]).exp()[0]
    assert np.allclose(detect_example.label_probabilities(logits, list(TREE.parents)), expected, atol=1e-6)


def test_detect_runs_an_exported_file_without_torch(export, tmp_path):
    _, exported = export("tree")
    Image.new("RGB", (80, 60), (90, 10, 200)).save(tmp_path / "a.png")
    output = run_without_torch(
        "detect", tmp_path / "a.png", "--weights", exported.path, "--out", tmp_path / "drawn", "--conf", "0.02"
    )
    assert "network: onnxruntime, float32, 96x64" in output


def test_a_file_that_computes_something_else_is_not_written(stored, images, tmp_path, monkeypatch):
    weights = stored(*MODELS["flat"])
    original = module._graph
    wrong = {
        name: value + 0.02 if name.endswith("head.conv.bias") else value for name, value in weights.weights.items()
    }
    (tmp_path / "a.onnx").write_text("old")

    def graph(network, info):
        torch.nn.Module.load_state_dict(network, replace(weights, weights=wrong).weights, strict=False)
        return original(network, info)

    monkeypatch.setattr(module, "_graph", graph)
    with pytest.raises(WeightsError, match=r"largest difference from PyTorch on 4 images: .*; allowed:"):
        export_weights(weights, "a", tmp_path / "a.onnx", "onnx", images=images)
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    assert (tmp_path / "a.onnx").read_text() == "old"


def test_forms_belong_to_tasks(stored, images, tmp_path):
    with pytest.raises(ConfigError, match="--form probabilities: a detector has the forms detections and raw"):
        export_weights(stored(*MODELS["flat"]), "a", tmp_path / "a.onnx", "onnx", form="probabilities", images=images)


def test_there_is_a_photo_to_compare_with():
    photos = sample_images(())
    assert len(photos) == 4
    assert photos[0].shape == (600, 512, 3)
