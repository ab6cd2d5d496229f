import copy
import io

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import Weights, WeightsEnum

from yolo9k.errors import ConfigError, WeightsError
from yolo9k.fetch import file_hash
from yolo9k.models.layers import count_operations
from yolo9k.models.norms import fold_norms
from yolo9k.models.torchvision_backbone import (
    ALIASES,
    LISTED,
    TorchvisionBackbone,
    full_name,
    normalisation,
)

CHANNELS = {
    "resnet18": (256, 512),
    "resnet34": (256, 512),
    "resnet50": (1024, 2048),
    "resnet101": (1024, 2048),
    "resnext50_32x4d": (1024, 2048),
    "vgg16_bn": (512, 512),
    "densenet121": (512, 1024),  # after the transition layer, which halves the channels of the dense block
    "googlenet": (832, 1024),
    "mobilenet_v2": (576, 1280),  # 96 channels, expansion factor 6
    "mobilenet_v3_large": (672, 960),
    "shufflenet_v2_x1_0": (232, 1024),
    "efficientnet_b0": (672, 1280),
    "convnext_tiny": (384, 768),
}


def on_meta(name):
    """A backbone on the meta device: fast to build, computes only shapes."""
    with torch.device("meta"):
        return TorchvisionBackbone(name)


def test_listed_names_and_aliases():
    assert tuple(CHANNELS) == LISTED
    assert {full_name(alias) for alias in ALIASES} <= set(LISTED)


@pytest.mark.parametrize("name", [*LISTED, "mnasnet0_5", "vgg11"])
def test_strides_are_exact_at_every_size(name):
    network = on_meta(name)
    assert network.channels == CHANNELS.get(name, network.channels)
    for w, h in ((320, 320), (416, 416), (480, 352)):
        fine, coarse = network(torch.zeros(1, 3, h, w, device="meta"))
        assert fine.shape == (1, network.channels[0], h // 16, w // 16)
        assert coarse.shape == (1, network.channels[1], h // 32, w // 32)


def test_regnet():
    network = TorchvisionBackbone("regnet_x_400mf").eval()
    with torch.no_grad():
        fine, coarse = network(torch.rand(1, 3, 64, 96))
    assert (fine.shape, coarse.shape) == ((1, 160, 4, 6), (1, 400, 2, 3))


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1", "inception_v3", "maxvit_t", "vit_b_32", "swin_t"])
def test_networks_without_such_feature_maps_are_errors(name, capfd):
    with pytest.raises(ConfigError, match=rf"model\.backbone: {name} has no feature maps of stride 16 and 32"):
        on_meta(name)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5", "no classifier 'resnet5'; did you mean resnet50"),
        ("shufflenetv2", "did you mean shufflenet_v2"),
        ("fasterrcnn_resnet50_fpn", "no classifier"),  # a torchvision detector, not a classifier
        ("?", "available: resnet18, .*convnext_tiny and others"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ConfigError, match=message):
        TorchvisionBackbone(name)


def test_images_are_normalised_as_the_weights_expect():
    for name in torchvision.models.list_models(torchvision.models):
        expected = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        if name not in ("googlenet", "inception_v3"):
            assert normalisation(name) == (tuple(expected.mean), tuple(expected.std)), name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {}),
        ("densenet121", {}),
        (
            "googlenet",
            {"aux_logits": False, "init_weights": False, "transform_input": True},
        ),  # the options of its weights
    ],
)
def test_the_coarse_features_are_what_the_classifier_averages(name, options):
    torch.manual_seed(0)
    network = TorchvisionBackbone(name).eval()
    original = torchvision.models.get_model(name, weights=None, **options).eval()
    original.load_state_dict(network.body.state_dict(), strict=False)
    averaged = []
    classifier = next(m for m in original.modules() if isinstance(m, nn.Linear) and m.out_features >= 1000)
    classifier.register_forward_pre_hook(lambda _, inputs: averaged.append(inputs[0]))
    images = torch.rand(2, 3, 64, 96)
    expected = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (expected.mean, expected.std))
    with torch.no_grad():
        original((images - mean) / std)
        pooled = network(images)[1].mean((2, 3))
    assert torch.allclose(pooled, averaged[0], rtol=1e-4, atol=1e-5)


def test_a_copy_computes_the_same_and_keeps_its_mode():
    network = TorchvisionBackbone("resnet18").eval()
    images = torch.rand(1, 3, 32, 64)
    copied = copy.deepcopy(network)
    assert not any(module.training for module in copied.modules())
    with torch.no_grad():
        before = network(images)[1]
        assert torch.equal(copied(images)[1], before)
        next(copied.parameters()).zero_()
        assert not torch.equal(copied(images)[1], before)
        assert torch.equal(network(images)[1], before)


def test_the_state_dict_has_the_keys_of_torchvision():
    network = on_meta("resnet18")
    own = {name.removeprefix("body.") for name in network.state_dict()}
    theirs = set(torchvision.models.resnet18(weights=None).state_dict())
    assert own == theirs - {"fc.weight", "fc.bias"}


def test_folding_norms_keeps_the_output():
    torch.manual_seed(0)
    network = TorchvisionBackbone("densenet121").eval()
    for norm in [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]:
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 1.5)
    folded = fold_norms(network)
    remaining = sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert remaining == 62  # of 121: dense layers and transition layers start with a norm
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for expected, actual in zip(network(images), folded(images), strict=True):
            assert torch.allclose(expected, actual, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_it_compiles_without_graph_breaks():
    network = TorchvisionBackbone("resnet18").eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        compiled = torch.compile(network, backend="eager", fullgraph=True)(images)
        assert all(torch.equal(a, b) for a, b in zip(compiled, network(images), strict=True))


def test_operations_are_counted():
    counted = count_operations(TorchvisionBackbone("resnet18"), (224, 224))
    published = 1.814e9 * 2  # torchvision's table counts multiply-adds, including the last layer
    assert counted == pytest.approx(published - 2 * 512 * 1000, rel=0.01)


# --- pretrained weights


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Return a function `(name, state, url)` that writes torchvision weights to its cache, or offers them at a URL.

    The function returns the path in the cache and the content of the file.
    """
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def offer(name, state, url=None):
        content = io.BytesIO()
        torch.save(state, content)
        draft = tmp_path / "draft"
        draft.write_bytes(content.getvalue())
        file = tmp_path / "torch" / "hub" / "checkpoints" / f"{name}-{file_hash(draft, 'sha256')[:8]}.pth"
        if url is None:
            file.parent.mkdir(parents=True)
            draft.rename(file)
        address = f"{url or 'http://127.0.0.1:9'}/{file.name}"
        kind = WeightsEnum("Fake", {"DEFAULT": Weights(url=address, transforms=lambda: None, meta={})})
        monkeypatch.setattr(torchvision.models, "get_model_weights", lambda requested: {name: kind}[requested])
        return file, content.getvalue()

    return offer


def classifier_state(name):
    torch.manual_seed(7)
    state = torchvision.models.get_model(name, weights=None).state_dict()
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}  # as in old files


def test_weights_in_the_cache_are_loaded(cached):
    state = classifier_state("resnet18")
    file, _ = cached("resnet18", state)
    network = TorchvisionBackbone("resnet18")
    assert network.load_pretrained() == file
    for key, value in network.body.state_dict().items():
        assert key.endswith("num_batches_tracked") or torch.equal(value, state[key]), key


def test_old_layer_names_of_densenets_are_converted(cached):
    state = classifier_state("densenet121")
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in key else key: value
        for key, value in state.items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    cached("densenet121", old)
    network = TorchvisionBackbone("densenet121")
    network.load_pretrained()
    key = "features.denseblock4.denselayer16.conv2.weight"
    assert torch.equal(network.body.state_dict()[key], state[key])


def test_weights_are_downloaded_to_the_cache(cached, file_server):
    file, content = cached("resnet18", classifier_state("resnet18"), url=file_server.url("plain"))
    file_server.files[file.name] = content
    titles = []
    network = TorchvisionBackbone("resnet18")
    network.load_pretrained(lambda items, title, total=None: titles.append(title) or items)
    assert file.read_bytes() == content
    assert titles == [f"Downloading {file.name} [MiB]"]


def test_a_failed_download_names_the_file_to_download_by_hand(cached, file_server):
    file, _ = cached("resnet18", {}, url=file_server.url("missing"))
    with pytest.raises(WeightsError) as caught:
        TorchvisionBackbone("resnet18").load_pretrained()
    assert str(caught.value).endswith(f"download it by hand to {file}")
    assert "\n" not in str(caught.value)


def test_a_cached_file_with_a_wrong_hash_is_an_error(cached):
    file, content = cached("resnet18", classifier_state("resnet18"))
    file.write_bytes(content[:-1])
    with pytest.raises(WeightsError, match=r"its sha256 is \w+; must be \w{8}; remove it to download it again"):
        TorchvisionBackbone("resnet18").load_pretrained()
