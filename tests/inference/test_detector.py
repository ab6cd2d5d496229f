import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from yolo9k import checkpoint
from yolo9k.build import build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import load_config
from yolo9k.detection.thresholds import Thresholds
from yolo9k.errors import ConfigError, DataError, MachineError, WeightsError
from yolo9k.inference.detector import Decoding, Detector
from yolo9k.models.layers import ConvBlock
from yolo9k.models.norms import fold_norms
from yolo9k.wordtree import WordTree

LABELS = WordTree.flat(["cat", "dog"])
CONFIG = load_config(None, ["model={name: yolov2-tiny, width: 0.1, anchors: [[1, 1], [2, 2]]}", "data.size=96x64"])
LOW = {"conf": 0.01}


def randomised(network):
    """Randomise norms and head, so that there are many detections and folding norms has an effect."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator) * 0.1)
            norm.running_var.copy_(torch.rand(norm.num_features, generator=generator) + 0.5)
            norm.weight.copy_(torch.rand(norm.num_features, generator=generator) + 0.5)
            norm.bias.copy_(torch.randn(norm.num_features, generator=generator) * 0.1)
        network.head.conv.weight.normal_(std=0.3, generator=generator)
    return network.eval()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return randomised(build_network(CONFIG.model, LABELS))


@pytest.fixture(scope="module")
def detector(network):
    return Detector.of_network(fold_norms(network), LABELS, CONFIG, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    sizes = [(50, 40), (96, 64), (30, 90)]
    return [rng.integers(0, 256, (h, w, 3), np.uint8) for w, h in sizes]


class OneBox(nn.Module):
    """A network that detects a cat (and with a lower score a dog) of 32x16 pixels in the cell (row 1, column 2)."""

    stride = 32
    anchors = torch.tensor([[1.0, 0.5]])

    def __init__(self):
        super().__init__()
        self.shape = ()

    @property
    def head(self):
        return self

    def check_size(self, size_wh):
        pass

    def features(self, images):
        self.shape = images.shape
        raw = torch.full((len(images), 1, 7, images.shape[2] // 32, images.shape[3] // 32), -20.0)
        raw[:, 0, :, 1, 2] = torch.tensor([0.0, 0, 0, 0, 1.3862944, 1.0986123, 0])  # .8; 3/4, 1/4
        return raw

    def geometry(self, features):
        return features[:, :, :5]

    def class_logits(self, features, positions, nodes=None):
        image, anchor, row, column = positions.unbind(1)
        return features[image, anchor, :, row, column][:, 5:]


@pytest.fixture
def one_box():
    return Detector.of_network(OneBox(), LABELS, CONFIG, device="cpu", precision="float32")


def equal(one, other, tolerance=1e-4):
    assert one.label.tolist() == other.label.tolist()
    assert np.allclose(one.xyxy, other.xyxy, atol=100 * tolerance)
    assert np.allclose(one.score, other.score, atol=tolerance)


def test_detections_are_in_pixels_of_the_image(one_box):
    # 192x64 into 96x64: half the size, 16 rows of padding above. The box is [64, 40, 96, 56] in the network's input.
    detections = one_box(np.zeros((64, 192, 3), np.uint8), conf=0.5)
    assert one_box.engine.network.shape == (1, 3, 64, 96)
    assert detections.xyxy.tolist() == [[128, 48, 192, 64]]  # clipped at the lower border: 16 + 64 / 2 = 48
    assert detections.score.tolist() == pytest.approx([0.6])
    assert [name for _, _, name in detections] == ["cat"]


def test_boxes_in_the_padding_are_removed(one_box):
    assert len(one_box(np.zeros((10, 480, 3), np.uint8), conf=0.1)) == 0  # two rows of image, at 31 to 33


def test_thresholds_classes_and_agnostic(one_box):
    image = np.zeros((64, 96, 3), np.uint8)
    assert one_box(image, conf=0.1).label.tolist() == [0, 1]
    assert one_box(image, conf=0.1, classes=["dog"]).label.tolist() == [1]
    assert one_box(image, conf=0.1, agnostic=True).label.tolist() == [0]
    assert one_box(image, conf=0.1, classes=["dog"], agnostic=True).label.tolist() == [1]
    assert one_box(image, conf=0.1, max_detections=1).label.tolist() == [0]
    assert len(one_box(image, conf=0.61)) == 0
    with pytest.raises(ConfigError, match=r"classes: 'bird' is not a label of this set \(cat, dog\)"):
        one_box(image, classes=["cat", "bird"])


def test_keywords_override_fields_of_thresholds(one_box):
    image = np.zeros((64, 96, 3), np.uint8)
    thresholds = Thresholds(conf=0.1, agnostic=True)
    assert one_box(image, thresholds).label.tolist() == [0]
    assert one_box(image, thresholds, agnostic=False).label.tolist() == [0, 1]
    assert [len(detections) for detections in one_box.stream([image], thresholds, conf=0.61)] == [0]
    with pytest.raises(ValueError, match=r"conf: 3 is not between 0 and 1"):
        one_box(image, conf=3)
    with pytest.raises(TypeError, match="confidence"):
        one_box(image, confidence=0.3)


def test_folded_norms_change_nothing():
    torch.manual_seed(0)
    model = CONFIG.model.model_copy(update={"name": "yolov2"})
    network, images = randomised(build_network(model, LABELS)), torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        assert torch.allclose(fold_norms(network)(images), network(images), rtol=1e-3, atol=1e-3)


def test_folding_works_on_a_copy(network, detector):
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fold_norms(network).modules())
    assert all(isinstance(m.norm, nn.BatchNorm2d) for m in network.modules() if isinstance(m, ConvBlock))  # a copy
    assert all(m.conv.bias is not None for m in detector.engine.network.modules() if isinstance(m, ConvBlock))


def test_folded_and_unfolded_detect_the_same(network, detector, images):
    plain = Detector.of_network(network, LABELS, CONFIG, device="cpu", precision="float32")
    for image in images:
        detections = detector(image, **LOW)
        assert len(detections)
        equal(plain(image, **LOW), detections, 1e-3)


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_the_batch_size_does_not_change_detections(detector, images, batch):
    detections = list(detector.stream(images * 2, batch=batch, **LOW))
    assert len(detections) == 6
    for each, image in zip(detections, images * 2, strict=True):
        equal(each, detector(image, **LOW))
        assert (np.diff(each.score) <= 0).all()
        h, w = image.shape[:2]
        assert (each.xyxy >= 0).all()
        assert (each.xyxy <= [w, h, w, h]).all()
        assert each.names == ("cat", "dog")


TREE = WordTree(*[("animal", "car", "cat", "dog", "poodle")] * 2, (-1, -1, 0, 0, 3))


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_several_decodings_detect_what_each_alone_detects_and_the_network_runs_once(images, monkeypatch, batch):
    torch.manual_seed(0)
    over_tree = randomised(build_network(CONFIG.model, TREE))
    detector = Detector.of_network(over_tree, TREE, CONFIG, device="cpu", precision="float32")
    decodings = [
        Decoding(Thresholds(conf=0.01, max_detections=20), detector.multi_label_decoder([0, 2, 3])),
        Decoding(Thresholds(conf=0.1, iou=0.3)),
        Decoding(Thresholds(conf=0.01), detector.class_decoder(leaves_only=True), classes=("animal",)),
    ]
    alone = [
        list(
            detector.stream(
                images, each.thresholds, batch=batch, classes=each.classes, class_decoder=each.class_decoder
            )
        )
        for each in decodings
    ]
    ran, features = [], over_tree.features
    monkeypatch.setattr(over_tree, "features", lambda batch: ran.append(len(batch)) or features(batch))
    together = list(detector.stream_each(images, decodings, batch=batch))
    assert sum(ran) == len(together) == len(images)
    assert all(sum(map(len, column)) for column in alone)
    for row, expected in zip(together, zip(*alone, strict=True), strict=True):
        assert len(row) == len(decodings)
        for found, one in zip(row, expected, strict=True):
            for name in ("xyxy", "score", "label", "path"):
                np.testing.assert_array_equal(getattr(found, name), getattr(one, name))


def test_weights_cast_once_give_what_autocast_gives(network, images):
    options = {"device": "cpu", "precision": "bf16"}
    by_autocast, cast = (
        Detector.of_network(fold_norms(network), LABELS, CONFIG, **options, is_owned=is_owned)
        for is_owned in (False, True)
    )
    kinds = {m.conv.weight.dtype for m in cast.engine.network.modules() if isinstance(m, ConvBlock)}
    assert kinds == {torch.bfloat16}
    assert cast.engine.network.head.conv.weight.dtype == torch.float32
    for image in images:
        expected, found = by_autocast(image, **LOW), cast(image, **LOW)
        assert len(found) > 0
        np.testing.assert_array_equal(found.xyxy, expected.xyxy)
        np.testing.assert_array_equal(found.score, expected.score)


def test_an_unreadable_image_has_no_detections_in_any_decoding(detector, images, tmp_path):
    errors = []
    decodings = [Decoding(Thresholds(conf=0.01)), Decoding(Thresholds(conf=0.02))]
    sources = [images[0], tmp_path / "a.png", images[1]]
    found = list(detector.stream_each(sources, decodings, on_unreadable=errors.append))
    assert [[len(each) > 0 for each in row] for row in found] == [[True, True], [False, False], [True, True]]
    assert [str(error) for error in errors] == [f"{tmp_path / 'a.png'}: no such image"]


def test_paths_and_arrays_give_the_same_detections(detector, images, tmp_path):
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    equal(detector(tmp_path / "a.png", **LOW), detector(images[0], **LOW), 1e-6)
    equal(detector(str(tmp_path / "a.png"), **LOW), detector(images[0], **LOW), 1e-6)
    assert list(detector.stream([])) == []


def test_invalid_images(detector, tmp_path):
    with pytest.raises(DataError, match="no such image"):
        detector(tmp_path / "a.png")
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(ConfigError, match=r"image: must be uint8 \(H, W, 3\) RGB, not"):
            detector(wrong)


def test_another_size(network, images):
    detector = Detector.of_network(network, LABELS, CONFIG, size_wh=(64, 128), device="cpu")
    assert detector.size_wh == detector.config.data.size == (64, 128)
    detector(images[0])
    with pytest.raises(ConfigError, match=r"data\.size: width and height must be multiples of 32, not 100x64"):
        Detector.of_network(network, LABELS, CONFIG, size_wh=(100, 64), device="cpu")


def test_load_from_a_run(network, detector, images, tmp_path):
    path = tmp_path / "run" / "checkpoints" / "best.pt"
    checkpoint.save(Checkpoint(CONFIG, LABELS, network.state_dict()), path)
    for weights in (tmp_path / "run", str(path)):
        loaded = Detector.load(weights, device="cpu", precision="float32")
        assert loaded.labels == LABELS
        assert loaded.size_wh == (96, 64)
        equal(loaded(images[0], **LOW), detector(images[0], **LOW))
    assert Detector.load(path, device="cpu", size_wh=(64, 64)).size_wh == (64, 64)
    with pytest.raises(MachineError, match="is not available"):
        Detector.load(path, device="cuda:99")


def test_incomplete_and_missing_weights(network, tmp_path):
    weights = {name: value for name, value in network.state_dict().items() if not name.startswith("head")}
    checkpoint.save(Checkpoint(CONFIG, LABELS, weights), tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"a\.pt: the weights do not fit the model"):
        Detector.load(tmp_path / "a.pt", device="cpu")
    with pytest.raises(WeightsError, match="no such file or run"):
        Detector.load(tmp_path / "b.pt")


def test_out_of_memory(detector, monkeypatch):
    def fail(_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(detector.engine.network, "features", fail)
    with pytest.raises(MachineError, match="out of memory on cpu; 1 images of 96x64 per batch are too many; use"):
        detector(np.zeros((4, 4, 3), np.uint8))
