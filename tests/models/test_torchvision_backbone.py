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
    "densenet121": (512, 1024),  # behind the transition, which halves the channels of the dense block
    "googlenet": (832, 1024),
    "mobilenet_v2": (576, 1280),  # 96 channels, expanded sixfold
    "mobilenet_v3_large": (672, 960),
    "shufflenet_v2_x1_0": (232, 1024),
    "efficientnet_b0": (672, 1280),
    "convnext_tiny": (384, 768),
}


def on_meta(name):
    """A backbone without memory: quick to build, and only its shapes can be asked for."""
    with torch.device("meta"):
        return TorchvisionBackbone(name)


def test_what_the_documentation_lists():
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


def test_a_regnet_works_too():
    network = TorchvisionBackbone("regnet_x_400mf").eval()
    with torch.no_grad():
        fine, coarse = network(torch.rand(1, 3, 64, 96))
    assert (fine.shape, coarse.shape) == ((1, 160, 4, 6), (1, 400, 2, 3))


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1", "inception_v3", "maxvit_t", "vit_b_32", "swin_t"])
def test_networks_without_such_maps_are_refused(name, capfd):
    with pytest.raises(ConfigError, match=rf"model\.backbone: {name} has no feature maps of stride 16 and 32"):
        on_meta(name)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5", "no classifier 'resnet5'; did you mean resnet50"),
        ("shufflenetv2", "did you mean shufflenet_v2"),
        ("fasterrcnn_resnet50_fpn", "no classifier"),  # torchvision has it, but as a detector
        ("?", "there are resnet18, .*convnext_tiny and others"),
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
        ("googlenet", {"aux_logits": False, "init_weights": False, "transform_input": True}),  # as its weights have it
    ],
)
def test_the_coarse_features_are_what_the_classifier_averages(name, options):
    torch.manual_seed(0)
    network = TorchvisionBackbone(name).eval()
    whole = torchvision.models.get_model(name, weights=None, **options).eval()
    whole.load_state_dict(network.body.state_dict(), strict=False)
    averaged = []
    classifier = next(part for part in whole.modules() if isinstance(part, nn.Linear) and part.out_features >= 1000)
    classifier.register_forward_pre_hook(lambda _, given: averaged.append(given[0]))
    images = torch.rand(2, 3, 64, 96)
    expected = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (expected.mean, expected.std))
    with torch.no_grad():
        whole((images - mean) / std)
        pooled = network(images)[1].mean((2, 3))
    assert torch.allclose(pooled, averaged[0], rtol=1e-4, atol=1e-5)


def test_a_copy_is_the_same_function_and_stays_in_its_mode():
    network = TorchvisionBackbone("resnet18").eval()
    images = torch.rand(1, 3, 32, 64)
    twin = copy.deepcopy(network)
    assert not any(module.training for module in twin.modules())
    with torch.no_grad():
        before = network(images)[1]
        assert torch.equal(twin(images)[1], before)
        next(twin.parameters()).zero_()
        assert not torch.equal(twin(images)[1], before)
        assert torch.equal(network(images)[1], before)


def test_a_checkpoint_has_the_weights_of_torchvision_by_their_names():
    network = on_meta("resnet18")
    own = {name.removeprefix("body.") for name in network.state_dict()}
    theirs = set(torchvision.models.resnet18(weights=None).state_dict())
    assert own == theirs - {"fc.weight", "fc.bias"}


def test_folded_norms_compute_the_same():
    torch.manual_seed(0)
    network = TorchvisionBackbone("densenet121").eval()
    for norm in [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]:
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 1.5)
    folded = fold_norms(network)
    left = sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert left == 62  # of 121: a dense layer begins with a norm, and so does a transition
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for plain, fast in zip(network(images), folded(images), strict=True):
            assert torch.allclose(plain, fast, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))


def test_it_compiles_in_one_piece():
    network = TorchvisionBackbone("resnet18").eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        compiled = torch.compile(network, backend="eager", fullgraph=True)(images)
        assert all(torch.equal(a, b) for a, b in zip(compiled, network(images), strict=True))


def test_operations_are_counted():
    counted = count_operations(TorchvisionBackbone("resnet18"), (224, 224))
    published = 1.814e9 * 2  # torchvision's table counts multiply-adds, those of the last layer too
    assert counted == pytest.approx(published - 2 * 512 * 1000, rel=0.01)


# --- weights of torchvision


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """`cached(name, network, url)`: weights of torchvision's form for `name`, in its cache unless there is an address.

    Gives the file and its content.
    """
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def write(name, state, url=None):
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
        monkeypatch.setattr(torchvision.models, "get_model_weights", lambda asked: {name: kind}[asked])
        return file, content.getvalue()

    return write


def classifier_state(name):
    torch.manual_seed(7)
    state = torchvision.models.get_model(name, weights=None).state_dict()
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}  # as old files are


def test_weights_in_the_cache_are_taken(cached):
    state = classifier_state("resnet18")
    file, _ = cached("resnet18", state)
    network = TorchvisionBackbone("resnet18")
    assert network.load_pretrained() == file
    for key, value in network.body.state_dict().items():
        assert key.endswith("num_batches_tracked") or torch.equal(value, state[key]), key


def test_densenets_have_other_names_in_their_files(cached):
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


def test_weights_are_fetched_into_the_cache(cached, file_server):
    file, content = cached("resnet18", classifier_state("resnet18"), url=file_server.url("plain"))
    file_server.files[file.name] = content
    shown = []
    network = TorchvisionBackbone("resnet18")
    network.load_pretrained(lambda items, what, total=None: shown.append(what) or items)
    assert file.read_bytes() == content
    assert shown == [f"Fetching {file.name} [MiB]"]


def test_without_a_net_one_line_says_what_belongs_where(cached, file_server):
    file, _ = cached("resnet18", {}, url=file_server.url("missing"))
    with pytest.raises(WeightsError) as caught:
        TorchvisionBackbone("resnet18").load_pretrained()
    assert str(caught.value).endswith(f"get it by hand and put it at {file}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_what_it_should_be(cached):
    file, content = cached("resnet18", classifier_state("resnet18"))
    file.write_bytes(content[:-1])
    with pytest.raises(WeightsError, match=r"its sha256 is \w+, \w{8} is right; remove it to fetch it again"):
        TorchvisionBackbone("resnet18").load_pretrained()
