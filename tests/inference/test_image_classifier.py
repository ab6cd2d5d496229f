import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from yolo9k import checkpoint, darknet
from yolo9k.build import build_classifier, build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import load_classifier_config, load_config
from yolo9k.darknet.weights import Header, conv_layers, write_weights
from yolo9k.errors import ConfigError, DataError, MachineError, WeightsError
from yolo9k.inference.classifier import Classification, ImageClassifier
from yolo9k.inference.detector import Detector
from yolo9k.models.norms import fold_norms
from yolo9k.pretrained import DarknetFiles
from yolo9k.wordtree import WordTree

LABELS = WordTree.flat(["cat", "dog", "eel"])
IDS = ("animal", "device", "dog", "cat", "clock")
TREE = WordTree(IDS, IDS, (-1, -1, 0, 0, 1))
CONFIG = load_classifier_config(None, ["model={name: tiny, width: 0.1}", "data.size=64"])
CFG = (
    "[net]\nwidth=32\nheight=16\nchannels=3\n"
    "[conv]\nbatch_normalize=1\nfilters=4\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
    "[conv]\nfilters=3\nactivation=linear\n[avgpool]\n[softmax]\n"
)


def randomised(network):
    """Randomise norms and last layer, so that predictions differ and folding norms has an effect."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator) * 0.1)
            norm.running_var.copy_(torch.rand(norm.num_features, generator=generator) + 0.5)
        network.last.weight.normal_(std=0.5, generator=generator)
    return network.eval()


@pytest.fixture(scope="module", params=[LABELS, TREE], ids=["flat", "tree"])
def labels(request):
    return request.param


@pytest.fixture(scope="module")
def network(labels):
    torch.manual_seed(0)
    return randomised(build_classifier(CONFIG.model, labels))


@pytest.fixture(scope="module")
def classifier(network, labels):
    return ImageClassifier(fold_norms(network), labels, CONFIG, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (h, w, 3), np.uint8) for w, h in [(50, 40), (96, 64), (30, 90)]]


class Brightness(nn.Module):
    """A network that predicts cat for dark images and dog for bright ones; the third label is always improbable."""

    def forward(self, images):
        self.shape = images.shape
        bright = images.mean(dim=(1, 2, 3))
        return torch.stack([1 - bright, bright, torch.full_like(bright, -9)], dim=1) * 8


def test_the_centre_of_an_image_is_classified():
    classifier = ImageClassifier(Brightness(), LABELS, CONFIG, device="cpu", precision="float32")
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:200] = 255
    classification = classifier(image)
    assert classifier.network.shape == (1, 3, 64, 64)
    assert [name for name, _ in classification] == ["dog", "cat", "eel"]
    assert classification.score.tolist() == pytest.approx(torch.tensor([8.0, 0, -72]).softmax(0).tolist(), abs=1e-6)
    assert next(iter(classifier(255 - image)))[0] == "cat"


def test_rows_and_the_descent(classifier, labels, images):
    classification = classifier(images[0], top=2)
    assert len(classification) == 2
    assert classification.score[0] >= classification.score[1]
    assert [name for name, _ in classification] == [labels.names[label] for label in classification.label]
    if labels.is_flat:
        assert classification.descent_label is None
        assert classification.path[:, 0].tolist() == classification.score.tolist()
        with pytest.raises(ConfigError, match="hier-thresh: requires a label tree"):
            classifier(images[0], hier_thresh=0.5)
    else:
        assert all(labels.leaves[label] for label in classification.label)
        assert classification.path.shape == (2, 2)
        assert classification.path[:, 1].tolist() == pytest.approx(classification.score.tolist())
        high, low = (classifier(images[0], hier_thresh=value) for value in (1.0, 0.0))
        assert labels.depth[high.descent_label] == 0
        assert labels.leaves[low.descent_label]
        assert np.isnan(high.descent_path[1])


def test_folded_and_unfolded_predict_the_same(network, classifier, labels, images):
    plain = ImageClassifier(network, labels, CONFIG, device="cpu", precision="float32")
    assert any(isinstance(m, nn.BatchNorm2d) for m in plain.network.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in classifier.network.modules())
    for image in images:
        one, other = plain(image), classifier(image)
        assert one.label.tolist() == other.label.tolist()
        assert np.allclose(one.score, other.score, atol=1e-3)


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_the_batch_size_does_not_change_predictions(classifier, images, batch):
    classifications = list(classifier.stream(images * 2, batch=batch))
    assert len(classifications) == 6
    for one, image in zip(classifications, images * 2, strict=True):
        other = classifier(image)
        assert one.label.tolist() == other.label.tolist()
        assert np.allclose(one.score, other.score, atol=1e-5)
    assert list(classifier.stream([])) == []


def test_bf16_is_close(network, labels, images):
    one, other = (
        ImageClassifier(network, labels, CONFIG, device="cpu", precision=precision)(images[0], top=9)
        for precision in ("float32", "bf16")
    )
    score = dict(zip(one.label.tolist(), one.score.tolist(), strict=True))
    assert dict(zip(other.label.tolist(), other.score.tolist(), strict=True)) == pytest.approx(score, abs=0.05)


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_unreadable_images_get_no_label(classifier, images, tmp_path, batch):
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_text("text")
    names = ["bad.png", "a.png", "bad.png", "bad.png", "a.png", "bad.png"]
    errors = []
    classifications = list(
        classifier.stream([tmp_path / name for name in names], batch=batch, on_unreadable=errors.append)
    )
    assert [len(each) > 0 for each in classifications] == [name == "a.png" for name in names]
    assert classifications[1].label.tolist() == classifier(images[0]).label.tolist()
    assert len(errors) == 4
    assert list(Classification.empty()) == []
    with pytest.raises(DataError, match=r"bad\.png: not a readable image"):
        list(classifier.stream([tmp_path / "a.png", tmp_path / "bad.png"]))
    with pytest.raises(ConfigError, match=r"image: must be uint8 \(H, W, 3\) RGB, not"):
        classifier(np.zeros((4, 4), np.uint8))


def test_load_from_a_run(network, classifier, labels, images, tmp_path):
    path = tmp_path / "run" / "checkpoints" / "best.pt"
    checkpoint.save(Checkpoint(CONFIG, labels, network.state_dict()), path)
    for weights in (tmp_path / "run", str(path)):
        loaded = ImageClassifier.load(weights, device="cpu", precision="float32")
        assert loaded.labels == labels
        assert loaded.size_wh == (64, 64)
        assert loaded(images[0]).score.tolist() == pytest.approx(classifier(images[0]).score.tolist(), abs=1e-5)
    assert ImageClassifier.load(path, device="cpu", size_wh=(96, 64)).size_wh == (96, 64)
    with pytest.raises(ConfigError, match=r"data\.size: width and height must be multiples of 32, not 100x64"):
        ImageClassifier.load(path, device="cpu", size_wh=(100, 64))
    with pytest.raises(MachineError, match="is not available"):
        ImageClassifier.load(path, device="cuda:99")


def test_detectors_and_classifiers_are_told_apart(network, labels, tmp_path):
    checkpoint.save(Checkpoint(CONFIG, labels, network.state_dict()), tmp_path / "classifier.pt")
    config = load_config(None, ["model={name: yolov2-tiny, width: 0.1, anchors: [[1, 1]]}", "data.size=64"])
    detector = build_network(config.model, labels)
    checkpoint.save(Checkpoint(config, labels, detector.state_dict()), tmp_path / "detector.pt")
    with pytest.raises(WeightsError, match=r"detector\.pt: a detector, not a classifier; run it with yolo9k detect"):
        ImageClassifier.load(tmp_path / "detector.pt")
    with pytest.raises(
        WeightsError, match=r"classifier\.pt: a classifier, not a detector; run it with yolo9k classify"
    ):
        Detector.load(tmp_path / "classifier.pt")


@pytest.fixture
def darknet_classifier(tmp_path):
    (tmp_path / "net.cfg").write_text(CFG)
    (tmp_path / "net.names").write_text("cat\ndog\neel\n")
    torch.manual_seed(0)
    net = darknet.load(tmp_path / "net.cfg")
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_var, 0.5, 2)
    write_weights(tmp_path / "net.weights", conv_layers(net), Header(0, 2, 0, 0))
    return tmp_path / "net.weights"


def test_darknet_files_with_darknets_resize(darknet_classifier, images):
    classifier = ImageClassifier.load(darknet_classifier, device="cpu", precision="float32")
    assert classifier.labels.names == ("cat", "dog", "eel")
    net = darknet.load(darknet_classifier.with_suffix(".cfg"), darknet_classifier)
    cut = darknet.images.center_crop(images[2], (32, 16))
    with torch.no_grad():
        expected = net.layer_outputs(torch.from_numpy(cut))[-1]
    classification = classifier(images[2])
    assert classification.score.tolist() == pytest.approx(expected.sort(descending=True).values.tolist(), abs=1e-5)
    assert classification.label.tolist() == expected.argsort(descending=True).tolist()


def test_partial_files_are_refused(darknet_classifier):
    net = darknet.load(darknet_classifier.with_suffix(".cfg"), darknet_classifier)
    write_weights(darknet_classifier, conv_layers(net)[:1], Header(0, 2, 0, 0))
    with pytest.raises(WeightsError, match="a partial file with 1 of 2 layers"):
        ImageClassifier.load(darknet_classifier)
    with pytest.raises(ConfigError, match="--names: is only for Darknet weights files"):
        ImageClassifier.load("darknet19_448", files=DarknetFiles(names="x.names"))


def test_out_of_memory(classifier, images, monkeypatch):
    def fail(_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(classifier.network, "forward", fail)
    with pytest.raises(MachineError, match="out of memory on cpu; 1 images of 64x64 per batch are too many"):
        classifier(images[0])


def test_darknets_probabilities(shared):
    """Reference data `classifier`: probabilities and top-k of a network loaded from its files."""
    for folder in ("flat", "tree"):
        case = shared("golden", "darknet", "classifier", folder)
        given, expected = np.load(case / "input.npz"), np.load(case / "expected.npz")
        tree = case / "mini.tree" if folder == "tree" else None
        files = DarknetFiles(cfg=case / "net.cfg", names=case / "mini.names", tree=tree)
        classifier = ImageClassifier.load(case / "net.weights", device="cpu", precision="float32", files=files)
        classifier._prepare = lambda image, _: torch.from_numpy(image)  # the images already are the network's input
        classifications = list(classifier.stream([np.asarray(image) for image in given["image"]], batch=3))
        assert np.stack([each.label for each in classifications]).tolist() == expected["topk"].tolist()
        final = expected["probs_cudnn"] if folder == "flat" else expected["abs_prob_leaves"]
        picked = np.take_along_axis(final, expected["topk"].astype(int), axis=1)
        assert np.allclose(
            [each.score for each in classifications], picked, atol=5e-4
        )  # the tree's are from Darknet's CPU build, whose norms differ
