"""Parsing cfgs: valid ones, invalid ones, and that any text raises nothing but `WeightsError`."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo9k.darknet import load
from yolo9k.darknet import network as network_module
from yolo9k.darknet.cfg import MAX_LAYERS, Cfg, parse_cfg, read_cfg
from yolo9k.darknet.layers import MAX_PARAMETERS
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.darknet.recipe import config_from_cfg
from yolo9k.errors import WeightsError, Yolo9kError
from yolo9k.models.layers import count_parameters

NET = "[net]\nwidth=16\nheight=8\nchannels=3\n"
PARAMETERS = {
    "yolov2": 50_962_889,
    "yolov2-voc": 50_655_389,
    "yolov2-tiny": 11_232_057,
    "yolov2-tiny-voc": 15_861_773,
    "yolo9000": 48_793_101,
    "darknet19": 20_842_376,
    "darknet19_448": 20_842_376,
    "darknet9000": 29_470_826,
}
VALID = """[net]
width=32
height=32
channels=3
batch=4
subdivisions=2
policy=steps
steps=10,20
scales=.1,.1

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[route]
layers=-1,-1

[reorg]
stride=2

[shortcut]
from=-1

[dropout]
probability=.5

[convolutional]
filters=14
size=1
activation=linear

[region]
anchors=1,1,2,2
num=2
classes=2
softmax=1
"""


def refusal(text: str, *, build: bool = True, strict: bool = False) -> str:
    """Return the message, one line, of the error for a cfg that is parsed or built."""

    def make() -> None:
        cfg = parse_cfg(text, "a.cfg", strict=strict)
        if build:
            DarknetNetwork(cfg)

    with pytest.raises(WeightsError) as refused:
        make()
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_options_are_typed_and_have_line_numbers():
    cfg = parse_cfg(VALID, "a.cfg")
    assert [section.name for section in cfg.layers] == [
        "convolutional", "maxpool", "route", "reorg", "shortcut", "dropout", "convolutional", "region",
    ]  # fmt: skip
    assert cfg.size_wh == (32, 32)
    assert cfg.net.values["scales"] == (0.1, 0.1)
    assert cfg.net.values["steps"] == (10, 20)
    assert cfg.layers[0].values["batch_normalize"] is True
    assert (cfg.layers[0].line, cfg.layers[0].lines["filters"]) == (11, 13)
    assert cfg.region.values["anchors"] == (1, 1, 2, 2)
    assert cfg.warnings == ()


def test_white_space_comments_and_crlf_are_ignored():
    changed = VALID.replace("=", "\t = ").replace("\n", " \r\n").replace("[maxpool]", "# pool\n;\n\n [max pool]")
    spaced, plain = parse_cfg(changed), parse_cfg(VALID)
    assert [s.values for s in spaced.layers] == [s.values for s in plain.layers]
    assert spaced.layers[1].line == plain.layers[1].line + 3


def test_a_byte_order_mark_is_ignored(tmp_path):
    (tmp_path / "a.cfg").write_text(VALID, encoding="utf-8-sig")
    assert read_cfg(tmp_path / "a.cfg").size_wh == (32, 32)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("conv", "convolutional"), ("max", "maxpool"), ("avg", "avgpool"), ("soft", "softmax"),
        ("dropout", "dropout"),
    ],
)  # fmt: skip
def test_sections_have_aliases(alias, name):
    cfg = parse_cfg(NET.replace("[net]", "[network]") + f"[{alias}]\n")
    assert (cfg.net.name, cfg.layers[0].name) == ("net", name)


def test_the_first_of_two_equal_options_is_used():
    cfg = parse_cfg(NET + "[conv]\nfilters=4\nfilters=5\n", "a.cfg")
    assert cfg.layers[0].values["filters"] == 4
    assert cfg.warnings == (
        "a.cfg:7: [convolutional] filters=5: duplicate option; Darknet uses the first value, from line 6",
    )
    assert cfg.layers[0].error("filters", "x").args == ("a.cfg:6: [convolutional] filters=4: x",)
    assert parse_cfg(NET + "[conv]\nfilters=4\nfilters= 4\n").warnings == ()  # as the official cfgs have it
    assert "filters=5x: must be an integer" in refusal(NET + "[conv]\nfilters=4\nfilters=5x\n", build=False)


@pytest.mark.parametrize(
    ("section", "option", "warned"),
    [
        ("net", "adam=1", True), ("net", "adam=0", False), ("net", "clip=.5", True), ("net", "learning_rate=5", False),
        ("conv", "learning_rate=.1", True), ("conv", "learning_rate=1.0", False), ("conv", "clip=2", True),
    ],
)  # fmt: skip
def test_options_that_training_does_not_follow_are_warnings(section, option, warned):
    text = NET + f"{option}\n[conv]\n" if section == "net" else NET + f"[conv]\n{option}\n"
    warnings = parse_cfg(text, "a.cfg").warnings
    assert len(warnings) == warned
    assert all(f"{option}: not followed; training will differ from Darknet's" in warning for warning in warnings)


@pytest.mark.parametrize("comment", [" # (2 + 5) * 2", ";four", "#", " # a=5 [x]"])
def test_a_comment_behind_a_value_is_ignored_with_a_warning(comment):
    text = NET + f"[conv]\nfilters=4{comment}\n[route]\nlayers=-1{comment}\n"
    cfg = parse_cfg(text, "a.cfg")
    assert (cfg.layers[0].values["filters"], cfg.layers[1].values["layers"]) == (4, (-1,))
    assert [warning.partition(": the comment is ignored; Darknet reads ")[2] for warning in cfg.warnings] == ["4", "-1"]
    assert "a.cfg:6: [convolutional] filters=4" in refusal(text, build=False, strict=True)
    assert "put comments on a line of their own" in refusal(NET + f"[conv]\nactivation=leaky{comment}\n")


@pytest.mark.parametrize(
    ("section", "option", "value"),
    [
        ("net", "burn_in=1e3", 1), ("net", "max_batches=5000.5", 5000), ("net", "hue=.1f", 0.1),
        ("net", "momentum=high", 0.0), ("net", "steps=400k,5", (400, 5)), ("net", "scales=.1,x", (0.1, 0.0)),
        ("net", f"batch={'9' * 50}", 1 << 31), ("region", "random=1.4", 1.4), ("region", "rescore=yes", 0),
        ("region", "jitter=.3x", 0.3), ("conv", "learning_rate=fast", 0.0),
    ],
)  # fmt: skip
def test_options_of_training_never_stop_a_network_from_running(section, option, value):
    text = NET + (option if section == "net" else f"[{section}]\n{option}") + "\n"
    cfg = parse_cfg(text, "a.cfg")
    key = option.partition("=")[0]
    assert (cfg.layers[0] if cfg.layers else cfg.net).values[key] == value
    assert any(warning.startswith("a.cfg:") for warning in cfg.warnings)


@pytest.mark.parametrize(
    ("section", "neutral", "changing"),
    [
        ("conv", "dilation=1", "dilation=2"), ("conv", "dilation=1 # no", "dilation=3;3"),
        ("conv", "stride_x=1", "stride_x=2"), ("conv", "stride=2\nstride_y=2", "stride=2\nstride_y=1"),
        ("conv", "stride_x=2\nstride=2", "stride_x=1\nstride=2"), ("maxpool", "stride_x=-1", "stride_y=4"),
        ("conv", "antialiasing=0", "antialiasing=1"), ("maxpool", "maxpool_depth=0", "maxpool_depth=1"),
        ("maxpool", "out_channels=1", "out_channels=64"), ("conv", "deformable=0", "deformable=1"),
        ("region", "scale_x_y=1.0", "scale_x_y=1.05"), ("shortcut", "weights_type=none", "weights_type=per_feature"),
        ("conv", "sway=0", "sway=1"), ("conv", "assisted_excitation=0", "assisted_excitation=4000"),
        ("maxpool", "groups=1", "groups=2"), ("conv", "coordconv=0", "share_index=2"),
    ],
)  # fmt: skip
def test_options_of_a_fork_that_change_a_layer_are_errors(section, neutral, changing):
    assert parse_cfg(NET + f"[{section}]\n{neutral}\n").warnings == ()
    message = refusal(NET + f"[{section}]\n{changing}\n", build=False)
    assert message.startswith("a.cfg:")
    assert "changes what the layer computes, which is not supported; must be " in message


@pytest.mark.parametrize(
    "option", ["mosaic=1", "cutmix=1", "max_chart_loss=5.5", "ema_alpha=0.9998", "mixup=yes", "optimized_memory=2"]
)
def test_options_that_only_training_of_a_fork_reads_are_warnings(option):
    (warning,) = parse_cfg(NET + option + "\n", "a.cfg").warnings
    assert warning == f"a.cfg:5: [net] {option}: an option of AlexeyAB's fork; training does not follow it"
    assert parse_cfg(NET + f"{option.partition('=')[0]}=0\n").warnings == ()


def test_what_is_not_followed_is_said():
    region = NET + "[conv]\nfilters=6\n[region]\nclasses=1\nrandom=1.4\n"
    (warning,) = parse_cfg(region, "a.cfg").warnings
    assert (
        warning == "a.cfg:9: [region] random=1.4: the range of sizes is not followed; sizes are drawn as for random=1"
    )
    assert len(config_from_cfg(parse_cfg(region)).data.sizes) == 10
    (warning,) = parse_cfg(NET + "policy=sgdr\n", "a.cfg").warnings
    assert warning.startswith("a.cfg:5: [net] policy=sgdr: unknown; the learning rate is constant")


def test_anchors_in_pixels_are_a_warning():
    text = "[net]\nwidth=416\nheight=416\nchannels=3\n" + "[maxpool]\nstride=2\n" * 4
    text += "[conv]\n[maxpool]\nstride=2\n[route]\nlayers=-2\n[reorg]\nstride=2\n[conv]\n[region]\nanchors={}\n"
    for anchors in ("1,26", "1.08,1.19,16.62,10.52", "5,6,12,13"):
        assert parse_cfg(text.format(anchors)).warnings == ()
    (warning,) = parse_cfg(text.format("10,14,23,27"), "a.cfg").warnings
    assert "[region] anchors=10,14,23,27: 27 is larger than the grid of 13 cells; anchors of [region] are" in warning


def test_inputs_other_than_grey_and_rgb_are_refused():
    for channels, is_grey in ((1, True), (3, False)):
        assert parse_cfg(NET.replace("=3", f"={channels}")).is_grey == is_grey
    for channels in (2, 4, 6):
        with pytest.raises(WeightsError) as refused:
            config_from_cfg(parse_cfg(NET.replace("=3", f"={channels}") + CONV, "a.cfg"))
        assert str(refused.value) == f"a.cfg:4: [net] channels={channels}: not supported; must be 3 (RGB) or 1 (grey)"


def test_one_option_is_replaced_in_the_text():
    text = "# mine\n" + NET + "\n[avg]\n[soft]\n  tree = data/a.tree # old\ntree=b\n\n"
    cfg = parse_cfg(text)
    assert cfg.label_section is cfg.layers[1]
    assert cfg.text_with(cfg.label_section, "tree", "c.tree") == text.replace(
        "  tree = data/a.tree # old", "tree=c.tree"
    )
    assert parse_cfg(NET + CONV).label_section is None


def test_a_comma_at_the_end_of_a_list_is_ignored():
    assert parse_cfg(NET + "[route]\nlayers=-1,\n").layers[0].values["layers"] == (-1,)


def test_an_unknown_option_is_a_warning_or_an_error():
    text = NET + "[conv]\n\nfiltres=4\n"
    (warning,) = parse_cfg(text, "a.cfg").warnings
    assert warning.startswith("a.cfg:7: [convolutional] filtres=4: unknown option")
    assert refusal(text, build=False, strict=True) == warning


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.cfg: a cfg must begin with [net]"),
        ("# nothing\n", "a.cfg: a cfg must begin with [net]"),
        ("[conv]\nfilters=1\n", "a.cfg:1: [convolutional]: a cfg must begin with [net]"),
        ("width=3\n[net]\n", "a.cfg:1: width=3: option before the first section"),
        ("[net]\nwidth=3\nchannels=3\n", "a.cfg:1: [net] height: missing"),
        ("[net]\nheight=3\nchannels=3\n", "a.cfg:1: [net] width: missing"),
        ("[net]\nheight=3\nwidth=3\n", "a.cfg:1: [net] channels: missing"),
        ("[net]\nwidth=0\nheight=3\nchannels=3\n", "a.cfg:2: [net] width=0: must be between 1 and 65,536"),
        (NET + "[yolo]\n", "a.cfg:5: [yolo]: unknown section; supported: net, conv"),
        (NET + "[]\n", "a.cfg:5: []: a section must be written as [name]"),
        (NET + "[conv\n", "a.cfg:5: [conv: a section must be written as [name]"),
        (NET + NET, "a.cfg:5: [net]: duplicate [net]"),
        (NET + "[conv]\nfilters\n", "a.cfg:6: filters: expected [section] or key=value"),
        (NET + "[conv]\nfilters=\n", "a.cfg:6: filters=: expected"),
        (NET + "[conv]\n=3\n", "a.cfg:6: =3: expected"),
        (NET + "[conv]\nfilters=64x\n", "a.cfg:6: [convolutional] filters=64x: must be an integer"),
        (NET + "[conv]\nfilters=6.5\n", "filters=6.5: must be an integer"),
        (NET + "[conv]\nfilters=1_6\n", "filters=1_6: must be an integer"),
        (NET + f"[conv]\nfilters={'9' * 4000}\n", f"filters={'9' * 40}…: must be an integer"),
        (NET + "[conv]\npad=yes\n", "a.cfg:6: [convolutional] pad=yes: must be 0 or 1"),
        (NET + "[dropout]\nprobability=half\n", "probability=half: must be a number"),
        (NET + "[dropout]\nprobability=nan\n", "probability=nan: must be a number"),
        (NET + "[shortcut]\nalpha=1e39\n", "alpha=1e39: must be a number"),
        (NET + "[route]\nlayers=a\n", "layers=a: must be integers separated by commas"),
        (NET + "[region]\nanchors=1,,2\n", "anchors=1,,2: must be numbers separated by commas"),
        (NET + "x" * 90 + "\n", f"a.cfg:5: {'x' * 40}…: expected"),
    ],
)  # fmt: skip
def test_an_invalid_cfg_is_refused_with_its_line(text, message):
    assert message in refusal(text, build=False)


def test_a_file_that_cannot_be_read_is_refused_with_its_path(tmp_path):
    (tmp_path / "image.cfg").write_bytes(b"\x89PNG\xff\xfe")
    (tmp_path / "utf16.cfg").write_text(VALID, encoding="utf-16")
    assert read_cfg(tmp_path / "utf16.cfg").size_wh == (32, 32)
    (tmp_path / "long.cfg").write_text("#" * (1 << 21))
    for name, message in {
        "image.cfg": "not a text file", "long.cfg": "2,097,152 bytes; at most 1,048,576", "none.cfg": "No such file",
        "": "is a folder", "\0.cfg": "cannot be read",
    }.items():  # fmt: skip
        with pytest.raises(WeightsError, match=message) as refused:
            read_cfg(f"{tmp_path}/{name}" if name else tmp_path)
        assert str(refused.value).startswith(str(tmp_path))


CONV = "[conv]\nfilters=8\nsize=1\n"


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("", "a.cfg: a network must have at least one layer"),
        ("[region]\n", "a.cfg: a network must have at least one layer"),
        ("[region]\n[conv]\n", "a.cfg:5: [region]: must be the last section"),
        ("[conv]\n[region]\n[region]\n", "a.cfg:6: [region]: must be the last section"),
        (CONV + "[route]\nlayers=-2\n", "a.cfg:9: [route] layers=-2: -2 is layer -1; layer 1 can only read"),
        (CONV + "[route]\nlayers=1\n", "a.cfg:9: [route] layers=1: 1 is layer 1; layer 1 can only read"),
        (CONV + "[route]\nlayers=0,7\n", "layers=0,7: 7 is layer 7"),
        ("[route]\nlayers=-1\n", "layers=-1: -1 is layer -1"),
        (CONV + "[route]\n", "a.cfg:8: [route] layers: missing"),
        (CONV + "[maxpool]\nstride=2\n[route]\nlayers=-1,0\n", "a.cfg:11: [route] layers=-1,0: height and width"),
        (CONV + "[shortcut]\n", "a.cfg:8: [shortcut] from: missing"),
        (CONV + "[shortcut]\nfrom=3\n", "a.cfg:9: [shortcut] from=3: 3 is layer 3"),
        (CONV + "[conv]\nsize=1x\n", "a.cfg:9: [convolutional] size=1x: must be"),
        (CONV + "[reorg]\nstride=3\n", "a.cfg:9: [reorg] stride=3: does not fit 8x8x16"),
        (CONV + "[reorg]\nstride=4\n", "stride=4: does not fit 8x8x16"),
        (CONV + "[conv]\nsize=9\n", "a.cfg:8: [convolutional]: the output is empty for an input of 8x8x16"),
        (CONV + "[maxpool]\nsize=20\npadding=0\n", "a.cfg:8: [maxpool]: the output is empty"),
        (CONV + "[conv]\nfilters=9\ngroups=3\n", "a.cfg:10: [convolutional] groups=3: does not divide the 8 input"),
        (CONV + "[conv]\nfilters=9\ngroups=2\n", "a.cfg:10: [convolutional] groups=2: does not divide the 9 filters"),
        (CONV + "[conv]\ngroups=0\n", "groups=0: must be between 1 and"),
        (CONV + "[conv]\nfilters=-4\n", "filters=-4: must be between 1 and 16,777,216"),
        (CONV + "[conv]\nstride=0\n", "stride=0: must be between 1 and 1,024"),
        (CONV + "[conv]\nactivation=gelu\n", "a.cfg:9: [convolutional] activation=gelu: must be one of leaky, relu"),
        (CONV + "[conv]\nbinary=1\n", "a.cfg:9: [convolutional] binary=1: not supported; must be 0"),
        (CONV + "[conv]\nxnor=1\n", "xnor=1: not supported"),
        (CONV + "[conv]\nflipped=1\n", "flipped=1: not supported"),
        (CONV + "[conv]\nnumload=5\n", "numload=5: not supported"),
        (CONV + "[reorg]\nreverse=1\n", "a.cfg:9: [reorg] reverse=1: not supported"),
        (CONV + "[softmax]\nspatial=1\n", "a.cfg:9: [softmax] spatial=1: not supported"),
        (CONV + "[softmax]\ngroups=3\n", "a.cfg:9: [softmax] groups=3: does not divide the 1024 values"),
        (CONV + "[softmax]\ntemperature=0\n", "temperature=0: must be above 0"),
        (CONV + "[dropout]\nprobability=1\n", "probability=1: must be at least 0 and below 1"),
        (CONV + "[region]\nclasses=4\n", "a.cfg:6: [convolutional] filters=8: [region] requires 9 channels = "
                                         "1 anchors x (5 + 4 classes), not 8"),
        (CONV + "[region]\nclasses=3\nnum=2\nanchors=1,2\n", "a.cfg:11: [region] anchors=1,2: 2 numbers; num=2"),
        (CONV + "[region]\nclasses=3\nanchors=1,0\n", "anchors=1,0: must be above 0"),
        (CONV + "[region]\nclasses=0\n", "classes=0: must be between 1"),
        (CONV + "[region]\nclasses=3\ncoords=5\n", "a.cfg:10: [region] coords=5: not supported; must be 4"),
        (CONV + "[region]\nclasses=3\nbackground=1\n", "background=1: not supported; must be 0"),
    ],
)  # fmt: skip
def test_layers_that_do_not_fit_together_are_refused_with_their_line(layers, message):
    assert message in refusal(NET + layers)


def test_a_cfg_without_region_is_not_a_detector():
    for layers, end in ((CONV, "ends with [convolutional]"), ("", "has no layers")):
        with pytest.raises(WeightsError, match=r"a\.cfg: a detector must end with \[region\]"):
            parse_cfg(NET + layers, "a.cfg").region  # noqa: B018
        with pytest.raises(WeightsError) as refused:
            parse_cfg(NET + layers, "a.cfg").region  # noqa: B018
        assert str(refused.value).endswith(end)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_of_the_official_cfgs(shared, name):
    cfg = read_cfg(shared("golden", "darknet", "cfg") / f"{name}.cfg", strict=True)
    network = DarknetNetwork(cfg)
    assert count_parameters(network) == PARAMETERS[name]
    size = cfg.size_wh
    network.check_size(size)
    if "darknet" in name:
        assert network.region is None
    else:
        assert network.stride == 32
        assert network.shapes[-1].w == size[0] // 32


SHAPES = {
    "yolov2": (425, 19, 19), "yolov2-voc": (125, 13, 13),
    "yolov2-tiny": (425, 13, 13), "yolov2-tiny-voc": (125, 13, 13),
    "yolo9000": (28_269, 17, 17), "darknet19": (1000,), "darknet19_448": (1000,), "darknet9000": (9418,),
}  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("name", SHAPES)
def test_an_official_cfg_runs_at_its_size(shared, name):
    network = load(shared("golden", "darknet", "cfg") / f"{name}.cfg")
    w, h = network.cfg.size_wh
    out = network(torch.rand(1, 3, h, w))
    assert out.shape == (1, *SHAPES[name])
    assert out.isfinite().all()
    assert out.std() > 0


# Malicious cfgs


def test_too_many_layers_are_refused():
    assert f"at most {MAX_LAYERS:,} are supported" in refusal(NET + "[dropout]\n" * (MAX_LAYERS + 1), build=False)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("[conv]\nfilters=16000000\nsize=11\n", "a.cfg:6: [convolutional] filters=16000000: too many weights over 3"),
        ("[conv]\nfilters=16000000\npadding=4\n", "a.cfg:5: [convolutional]: too large: 6,144,000,000 values in"),
        ("[avg]\n" + "[conv]\nfilters=8000\n" * 6, "a.cfg:16: [convolutional]: too large: 3"),
        ("[avg]\n[conv]\nfilters=16000000\nbatch_normalize=1\n[conv]\nfilters=11\n", "too large: 288"),
        ("[avg]\n[conv]\nfilters=16777216\n" + "[conv]\nfilters=16777216\ngroups=16777216\n" * 9, "too large: "),
        ("[route]\nlayers=0\n", "layers=0: 0 is layer 0"),
        (CONV + "[route]\nlayers=-1,-1,-1,-1\n" * 100, "[route]: too large: "),
        (CONV + f"[route]\nlayers={'-1,' * 99}-1\n" * 1900, "[route]: too large: "),
        ("[conv]\npadding=1024\n" * 100, "[convolutional]: too large: "),
        ("[maxpool]\npadding=1024\n" * 100, "[maxpool]: too large: "),
        ("[conv]\nfilters=60000\nsize=1024\npad=1\n" * 2, "too many weights"),
        ("[avg]\n[conv]\nfilters=30\n[region]\nnum=1024\nclasses=1000000\n", "1000000 classes), not 30"),
        (CONV + "[region]\nclasses=16000000\n", "classes=16000000: must be between 1 and 1,048,576"),
    ],
)  # fmt: skip
def test_a_network_that_is_too_large_is_refused_before_memory_is_allocated(layers, message, monkeypatch):
    def allocate(*_args, **_options):
        pytest.fail("memory was allocated")

    monkeypatch.setattr(torch.nn.Module, "to_empty", allocate)
    assert message in refusal(NET + layers)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            CONV.replace("8", "2") * 2 + "[route]\nlayers=-1,-2\n",
            "a.cfg:11: [route]: too large: 2,147,483,648 values in memory",
        ),
        ("[maxpool]\nsize=101\nstride=1\n", "a.cfg:6: [maxpool] size=101: 8,214,930,259,968 comparisons; at most"),
        ("[conv]\nsize=201\npad=1\n", "a.cfg:5: [convolutional]: too large: 32,5"),
    ],
)
def test_a_network_that_takes_too_much_memory_or_time_for_an_image_is_refused(layers, message):
    assert message in refusal(NET.replace("16", "16384").replace("8\n", "16384\n") + layers)
    DarknetNetwork(parse_cfg(NET + layers))


def test_too_many_boxes_are_refused():
    layers = "[conv]\nfilters=6\n[region]\nclasses=1\nnum=1\n"
    large = NET.replace("16", "4096").replace("=8\n", "=4096\n")
    assert "a.cfg:5: [convolutional]: too large: 16,777,216 boxes; at most" in refusal(large + layers)


def test_the_limits_leave_room_for_real_networks():
    assert max(PARAMETERS.values()) * 4 < MAX_PARAMETERS
    assert network_module.MAX_LIVE > 32 * 4096 * 4096


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("momentum=1", "train.momentum"), ("learning_rate=-1", "train.lr"), ("hue=3", "data.augment.hue"),
        ("saturation=0", "data.augment.saturation"), ("decay=-1", "train.weight_decay"),
        ("policy=random", "[net] policy=random: not supported"),
        ("policy=steps\nsteps=2,1\nscales=1,1", "at: must increase"),
        ("policy=steps\nsteps=2", "[net] steps=2: 1 steps and 0 scales"), ("batch=0", "[net] batch=0: must be"),
        ("[region]\nclasses=3\nthresh=2", "[region] thresh=2: must be between 0 and 1"),
        ("[region]\nclasses=3\nclass_scale=-1", "[region] class_scale=-1: must be at least 0"),
    ],
)  # fmt: skip
def test_an_invalid_training_recipe_is_refused_with_its_cfg(option, message):
    layers, region = "[conv]\nfilters=8\n", "[region]\nclasses=3\n"
    is_region = option.startswith("[region]")
    text = NET + (layers + option + "\n" if is_region else option + "\n" + layers + region)
    with pytest.raises(WeightsError) as refused:
        config_from_cfg(parse_cfg(text, "a.cfg"))
    assert message in str(refused.value)
    assert str(refused.value).startswith("a.cfg:")
    assert "\n" not in str(refused.value)


def build_all(text: str) -> Cfg | None:
    """Parse a cfg, build its network and its config; `None` if it is refused."""
    try:
        cfg = parse_cfg(text, "a.cfg")
        network = DarknetNetwork(cfg)
        config_from_cfg(cfg)
    except WeightsError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert "a.cfg" in str(error)  # noqa: PT017
        return None
    assert sum(value.numel() for value in network.state_dict().values()) <= network_module.MAX_PARAMETERS
    return cfg


LINE = st.sampled_from(
    ["[net]", "[conv]", "[region]", "[route]", "[reorg]", "[softmax]", "[shortcut]", "[", "]", "width=8", "height=8",
     "channels=3", "filters=8", "layers=-1", "from=-1", "stride=2", "=", "a=b", "#", "tree=x", "classes=3"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(st.one_of(LINE, st.text(max_size=20)), max_size=12).map("\n".join)))
def test_no_text_breaks_the_parser(text):
    build_all(text)


EXTREMES = st.sampled_from(
    ["-1", "0", "1", "2", "7", "1024", "16777216", "16777217", "2147483647", "99999999999", "-5", ".5", "1e30", "-1e30",
     "1e400", "1,1", "-1,-1", "x"]
)  # fmt: skip


@st.composite
def mutated(draw):
    """Draw the valid cfg with a few lines deleted, duplicated, swapped or with another value."""
    lines = VALID.splitlines()
    for _ in range(draw(st.integers(1, 4))):
        at, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        match draw(st.sampled_from(["delete", "duplicate", "swap", "value", "value", "value"])):
            case "delete":
                del lines[at]
            case "duplicate":
                lines.insert(other, lines[at])
            case "swap":
                lines[at], lines[other] = lines[other], lines[at]
            case "value":
                lines[at] = lines[at].partition("=")[0] + "=" + draw(EXTREMES)
    return "\n".join(lines)


@settings(max_examples=250, deadline=None)
@given(mutated())
def test_no_mutation_of_a_cfg_breaks_the_network(text):
    with pytest.MonkeyPatch.context() as patch:  # small networks reach this limit; below it they are allocated
        patch.setattr(network_module, "MAX_PARAMETERS", 1 << 20)
        build_all(text)


def test_the_mutated_cfg_is_valid():
    assert build_all(VALID) is not None


def test_the_exit_code_of_a_refused_cfg():
    assert issubclass(WeightsError, Yolo9kError)
    assert WeightsError.exit_code == 4


def test_a_cfg_without_layers_is_no_config():
    with pytest.raises(WeightsError, match=r"a\.cfg: has no layers"):
        config_from_cfg(parse_cfg(NET, "a.cfg"))


@pytest.mark.parametrize(
    ("options", "batch", "accumulate"), [("64\nsubdivisions=3", 63, 3), ("2\nsubdivisions=1000000", 2, 2)]
)
def test_the_batch_is_divided_into_parts_of_at_least_one_image(options, batch, accumulate):
    config = config_from_cfg(parse_cfg(f"{NET}batch={options}\n{CONV}[softmax]\n", "a.cfg"))
    assert (config.train.batch, config.train.accumulate) == (batch, accumulate)


def test_warnings_are_bounded():
    options = "".join(f"unknown{index}=1\n" for index in range(1000))
    warnings = parse_cfg(NET + options + CONV, "a.cfg").warnings
    assert len(warnings) == 21
    assert warnings[-1] == "a.cfg: 980 more warnings"


@pytest.mark.parametrize("channels", ["\u0663", "\uff13"])
def test_digits_are_ascii(channels):
    assert "channels" in refusal(NET.replace("channels=3", f"channels={channels}") + CONV)
