"""Models of this package written as cfgs: the cfg builds the same network and the same config."""

import pytest
import torch
from torch import nn

from yolo9k import darknet
from yolo9k.build import build_classifier, build_network
from yolo9k.config import load_classifier_config, load_config
from yolo9k.darknet.recipe import config_from_cfg, train_values
from yolo9k.darknet.weights import conv_layers, read_weights
from yolo9k.darknet.writer import cfg_text, classifier_cfg_text
from yolo9k.errors import WeightsError
from yolo9k.models.darknet19 import Classifier, Darknet19
from yolo9k.models.layers import count_parameters
from yolo9k.models.norms import fold_norms
from yolo9k.wordtree import WordTree

LABELS = WordTree.flat(["a", "b", "c"])
MODELS = {
    "yolov2 as released": ("model.name=yolov2",),
    "yolov2 as in the paper": ("model.name=yolov2", "model.passthrough=paper"),
    "yolov2 without passthrough": ("model.name=yolov2", "model.passthrough=none"),
    "tiny": ("model.name=yolov2-tiny",),
    "tiny of voc": ("model.name=yolov2-tiny-voc",),
    "yolo9000": ("model.name=yolo9000",),
    "yolov2 without norms": ("model.name=yolov2", "model.norm.kind=none"),
    "yolov2 with frozen norms": ("model.name=yolov2", "model.norm.kind=frozen"),
}
SMALL = ("model.width=0.125", "model.anchors=[[1.3221, 1.73145], [0.1, 5.2364]]", "data.size=96x64")


def config_with(*overrides):
    return load_config(None, [*SMALL, *overrides])


def randomise(network: nn.Module) -> nn.Module:
    """Draw random norms, as in a trained network."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.running_var):
                nn.init.uniform_(value, 0.5, 2, generator=generator)
            for value in (module.bias, module.running_mean):
                nn.init.uniform_(value, -1, 1, generator=generator)
    return network.eval()


@torch.no_grad()
@pytest.mark.parametrize("model", MODELS)
def test_a_model_and_its_cfg_are_the_same_network(model, tmp_path):
    config = config_with(*MODELS[model])
    own = randomise(build_network(config.model, LABELS))
    cfg = darknet.parse_cfg(cfg_text(own, config), "own.cfg", strict=True)
    other = darknet.DarknetNetwork(cfg).eval()
    for layer, same in zip(conv_layers(own), conv_layers(other), strict=True):  # the order of a weights file
        for value, target in zip(layer.tensors, same.tensors, strict=True):
            assert target.shape == value.shape
            target.copy_(value)
    x = torch.rand(2, 3, 64, 96)
    actual, expected = other(x), own(x)
    assert actual.shape == expected.shape == (2, 16, 2, 3)
    assert torch.allclose(actual, expected, atol=1e-5 * float(expected.abs().max()))
    assert torch.equal(other.anchors, own.anchors)
    assert other.stride == own.stride == 32
    assert count_parameters(other) == count_parameters(own)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("yolov2", "yolov2"), ("yolov2-voc", "yolov2"),
        ("yolov2-tiny", "yolov2-tiny"), ("yolov2-tiny-voc", "yolov2-tiny-voc"), ("yolo9000", "yolo9000"),
    ],
)  # fmt: skip
def test_the_models_equal_the_official_cfgs(shared, name, model):
    official = darknet.read_cfg(shared("golden", "darknet", "cfg") / f"{name}.cfg")
    region = official.region.values
    pairs = list(zip(region["anchors"][::2], region["anchors"][1::2], strict=True))
    config = load_config(None, [f"model.name={model}", f"model.anchors={[list(pair) for pair in pairs]}"])
    labels = WordTree.flat([str(k) for k in range(region["classes"])])
    with torch.device("meta"):
        own = build_network(config.model, labels)
    own.anchors = torch.tensor(pairs)
    written = darknet.parse_cfg(cfg_text(own, config))
    assert written.region.values["anchors"] == region["anchors"]
    assert [section.name for section in written.layers] == [section.name for section in official.layers]
    for own_section, section in zip(written.layers[:-1], official.layers[:-1], strict=True):
        for key in ("filters", "size", "stride", "activation", "batch_normalize"):
            assert own_section.get(key, 0) == section.get(key, 0), (own_section.location, key)
    ours, theirs = (darknet.DarknetNetwork(cfg) for cfg in (written, official))
    shapes = [(s.channels, s.stride) for s in ours.shapes], [(s.channels, s.stride) for s in theirs.shapes]
    assert shapes[0] == shapes[1]
    assert ours.sources == theirs.sources


def package_model(name, region):
    """Build this package's model for an official cfg."""
    if name == "darknet19":
        return Classifier(Darknet19(), 1000)
    pairs = list(zip(region["anchors"][::2], region["anchors"][1::2], strict=True))
    config = load_config(None, [f"model.name={'yolov2' if name == 'yolov2-voc' else name}"])
    labels = WordTree.flat([str(k) for k in range(region["classes"])])
    return build_network(config.model.model_copy(update={"anchors": tuple(pairs)}), labels)


@torch.no_grad()
@pytest.mark.parametrize("name", ["yolov2-voc", "yolov2-tiny", "yolov2-tiny-voc", "darknet19"])
def test_a_model_and_the_official_cfg_have_the_same_output_for_the_same_weights(shared, tmp_path, name):
    cfg = darknet.read_cfg(shared("golden", "darknet", "cfg") / f"{name}.cfg")
    torch.manual_seed(0)
    official = randomise(darknet.load(cfg))
    darknet.save(official, tmp_path / "net.weights")
    own = package_model(name, cfg.layers[-1].values).eval()
    layers = conv_layers(own)
    assert read_weights(tmp_path / "net.weights", layers).layer_count == len(layers)
    x = torch.rand(1, 3, 64, 96)
    expected = official(x)
    assert expected.std() > 0
    assert torch.allclose(own(x), expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("eps", [1e-3, 1e-6, 1.0001e-5])
def test_another_eps_than_darknets_is_refused(eps):
    config = config_with(f"model.norm.eps={eps}")
    with pytest.raises(WeightsError, match=f"model.norm.eps: Darknet's is 1e-05; {eps:g} cannot"):
        cfg_text(build_network(config.model, LABELS), config)


def test_another_location_than_darknets_is_refused():
    config = config_with("model.location=offset")
    with pytest.raises(WeightsError, match=r"model\.location: Darknet's is direct; offset cannot"):
        cfg_text(build_network(config.model, LABELS), config)


def test_group_norm_is_refused():
    config = config_with("model.norm.kind=group")
    network = build_network(config.model, LABELS)
    with pytest.raises(
        WeightsError, match=r"model\.norm\.kind: Darknet has batch norm or none; group norm cannot be written"
    ):
        cfg_text(network, config)
    with pytest.raises(WeightsError, match=r"backbone\.fine\.0\.0\.conv: .* this model has group norm"):
        conv_layers(network)


@pytest.mark.parametrize("kind", ["frozen", "sync"])
def test_other_batch_norms_are_written_as_batch_norm(kind):
    config, plain = config_with(f"model.norm.kind={kind}"), config_with()
    network = build_network(config.model, LABELS)
    own = build_network(plain.model, LABELS)
    assert cfg_text(network, config) == cfg_text(own, plain)
    assert [[t.shape for t in layer.tensors] for layer in conv_layers(network)] == [
        [t.shape for t in layer.tensors] for layer in conv_layers(own)
    ]


def test_folded_norms_are_biases():
    config = config_with()
    folded = fold_norms(randomise(build_network(config.model, LABELS)))
    cfg = darknet.parse_cfg(cfg_text(folded, config), "own.cfg", strict=True)
    assert not any(section.get("batch_normalize", 0) for section in cfg.layers)
    shapes = [[t.shape for t in layer.tensors] for layer in conv_layers(folded)]
    assert shapes == [[t.shape for t in layer.tensors] for layer in conv_layers(darknet.DarknetNetwork(cfg))]


def read_back(*overrides):
    config = config_with(*overrides)
    cfg = darknet.parse_cfg(cfg_text(build_network(config.model, LABELS), config), "own.cfg")
    return config, config_from_cfg(cfg), cfg


def test_a_training_recipe_is_read_back_from_its_cfg():
    config, again, _ = read_back(
        "train.batch=24", "train.accumulate=3", "train.steps=1234567", "train.lr=0.0003", "train.momentum=0.95",
        "train.weight_decay=0.0001", "train.warmup=70", "train.schedule.policy=steps",
        "train.schedule.at=[400000, 1234567]", "train.schedule.scales=[0.1, 0.05]", "loss.object_scale=4",
        "loss.noobject_scale=0.5", "loss.class_scale=2", "loss.coord_scale=3", "loss.thresh=0.55", "loss.rescore=false",
        "loss.bias_match=false", "loss.image_labels=darknet", "loss.image_label_box=fit",
        "data.augment.jitter=0.25", "data.augment.hue=0.05",
        "data.augment.saturation=1.75", "data.augment.exposure=1.25", "data.augment.geometry=fixed",
        "model.classes=logistic",
    )  # fmt: skip
    assert again.train.schedule.at == (400_000, 1_234_567)
    assert again.train.schedule.scales == pytest.approx((0.1, 0.05))
    schedule = config.train.schedule.model_copy(update={"power": again.train.warmup_power})
    assert again.train == config.train.model_copy(
        update={"schedule": schedule, **{key: getattr(again.train, key) for key in ("clip_grad", "ema")}}
    )
    assert again.loss == config.loss
    assert again.data.size == config.data.size
    for key in ("jitter", "hue", "saturation", "exposure", "geometry"):
        assert getattr(again.data.augment, key) == getattr(config.data.augment, key)
    assert again.model.classes == "logistic"
    assert torch.tensor(again.model.anchors).equal(torch.tensor(config.model.anchors))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["constant"], {"policy": "constant"}),
        (["cosine"], {"policy": "constant"}),  # Darknet has no cosine schedule
        (["poly", "power=4"], {"policy": "poly"}),
        (["step", "every=70", "gamma=0.5"], {"policy": "step", "every": 70, "gamma": 0.5}),
        (["exp", "gamma=0.999"], {"policy": "exp", "gamma": 0.999}),
        (["sigmoid", "every=70", "gamma=-0.5"], {"policy": "sigmoid", "every": 70, "gamma": -0.5}),
        (["steps", "at=[2.5]", "scales=[0.1]", "unit=step"], {"policy": "steps", "at": (3,), "scales": (0.1,)}),
        (["steps", "at=[2]", "scales=[0.1]", "unit=epoch"], {"policy": "constant"}),
    ],
)
def test_schedules_that_darknet_has_are_written(overrides, expected):
    name, *others = overrides
    settings = [f"train.schedule.policy={name}", *(f"train.schedule.{other}" for other in others)]
    _, again, _ = read_back(*settings)
    assert {key: getattr(again.train.schedule, key) for key in expected} == expected


def test_the_region_names_its_tree():
    config = config_with()
    network = build_network(config.model, LABELS)
    assert darknet.parse_cfg(cfg_text(network, config, "own.tree")).region.values["tree"] == "own.tree"
    assert "tree" not in darknet.parse_cfg(cfg_text(network, config)).region.values


@pytest.mark.parametrize("name", ["yolov2", "yolov2-voc", "yolov2-tiny", "yolov2-tiny-voc", "yolo9000"])
def test_the_official_recipes_are_read(shared, name):
    cfg = darknet.read_cfg(shared("golden", "darknet", "cfg") / f"{name}.cfg")
    config = config_from_cfg(cfg)
    assert (config.train.momentum, config.train.weight_decay, config.train.lr) == (0.9, 0.0005, 0.001)
    assert (config.loss.object_scale, config.loss.thresh, config.loss.bias_match) == (5, 0.6, True)
    assert config.loss.rescore == (name != "yolov2-tiny")
    assert config.data.sizes[0] == (320, 320)
    assert config.data.sizes[-1] == (608, 608)
    at = {"yolov2-voc": (40_000, 60_000), "yolov2-tiny-voc": (0, 100, 20_000, 30_000)}.get(name, (400_000, 450_000))
    assert config.train.schedule.at == at
    assert config.train.warmup == (0 if name == "yolov2-tiny-voc" else 1000)
    jitter = 0.2 if "tiny" in name or name == "yolo9000" else 0.3
    assert config.data.augment.jitter == jitter
    assert (config.data.augment.geometry, config.data.augment.min_visible) == ("fixed", 0)
    assert config.model.cfg == cfg.text


def test_the_batch_size_is_rounded_as_in_darknet():
    cfg = darknet.parse_cfg("[net]\nwidth=8\nheight=8\nchannels=3\nbatch=10\nsubdivisions=4\n")
    values = train_values(cfg.net)
    assert (values["batch"], values["accumulate"]) == (8, 4)  # net.batch = 10 / 4, an integer division


@pytest.mark.parametrize("size", ["128", "256x128", "96x160"])
def test_the_crops_of_a_classifier_are_read_back_from_its_cfg(size):
    config = load_classifier_config(None, [
        "model.name=tiny", "model.width=0.1", f"data.size={size}", "data.augment.min_crop=100",
        "data.augment.max_crop=300",
    ])  # fmt: skip
    text = classifier_cfg_text(build_classifier(config.model, LABELS), config)
    again = config_from_cfg(darknet.parse_cfg(text, "own.cfg")).data
    assert again.size == config.data.size
    assert again.augment.crop_sizes(again.size) == config.data.augment.crop_sizes(config.data.size)
