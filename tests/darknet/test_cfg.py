"""Reading cfgs: what is accepted, what is refused, and that nothing worse than `WeightsError` comes of any text."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo9k.darknet import load
from yolo9k.darknet import network as network_module
from yolo9k.darknet.cfg import MAX_LAYERS, Cfg, parse_cfg, read_cfg
from yolo9k.darknet.layers import LARGEST_OUTPUT, MAX_NUMBERS
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.darknet.recipe import config_of
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
    """The one line that refuses a cfg, when it is read or built."""

    def make() -> None:
        cfg = parse_cfg(text, "a.cfg", strict=strict)
        if build:
            DarknetNetwork(cfg)

    with pytest.raises(WeightsError) as refused:
        make()
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_options_are_typed_and_know_their_lines():
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


def test_blanks_comments_and_windows_lines_do_not_matter():
    changed = VALID.replace("=", "\t = ").replace("\n", " \r\n").replace("[maxpool]", "# pool\n;\n\n [max pool]")
    written, plain = parse_cfg(changed), parse_cfg(VALID)
    assert [s.values for s in written.layers] == [s.values for s in plain.layers]
    assert written.layers[1].line == plain.layers[1].line + 3


def test_the_mark_of_a_text_editor_is_not_part_of_a_cfg(tmp_path):
    (tmp_path / "a.cfg").write_text(VALID, encoding="utf-8-sig")
    assert read_cfg(tmp_path / "a.cfg").size_wh == (32, 32)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("conv", "convolutional"), ("max", "maxpool"), ("avg", "avgpool"), ("soft", "softmax"),
        ("dropout", "dropout"),
    ],
)  # fmt: skip
def test_sections_have_short_names(alias, name):
    cfg = parse_cfg(NET.replace("[net]", "[network]") + f"[{alias}]\n")
    assert (cfg.net.name, cfg.layers[0].name) == ("net", name)


def test_the_first_of_two_equal_keys_wins():
    cfg = parse_cfg(NET + "[conv]\nfilters=4\nfilters=5\n", "a.cfg")
    assert cfg.layers[0].values["filters"] == 4
    assert cfg.warnings == ("a.cfg:7: [convolutional] filters: a second value; Darknet uses the first, of line 6",)
    assert cfg.layers[0].error("filters", "x").args == ("a.cfg:6: [convolutional] filters: x",)
    assert parse_cfg(NET + "[conv]\nfilters=4\nfilters= 4\n").warnings == ()  # as the official cfgs have it
    assert "filters: must be a whole number, not 5x" in refusal(NET + "[conv]\nfilters=4\nfilters=5x\n", build=False)


@pytest.mark.parametrize(
    ("section", "option", "warned"),
    [
        ("net", "adam=1", True), ("net", "adam=0", False), ("net", "clip=.5", True), ("net", "learning_rate=5", False),
        ("conv", "learning_rate=.1", True), ("conv", "learning_rate=1.0", False), ("conv", "clip=2", True),
    ],
)  # fmt: skip
def test_what_is_not_followed_in_training_is_said(section, option, warned):
    text = NET + f"{option}\n[conv]\n" if section == "net" else NET + f"[conv]\n{option}\n"
    found = parse_cfg(text, "a.cfg").warnings
    assert len(found) == warned
    assert all(f"{option.replace('=', ': ')} is not followed here; training differs" in warning for warning in found)


def test_a_comment_behind_a_value_is_explained():
    for text in ("filters=4 # four", "filters=4;four"):
        assert refusal(NET + f"[conv]\n{text}\n", build=False).endswith("; a comment needs a line of its own")


def test_one_option_is_replaced_in_the_text():
    text = "# mine\n" + NET + "\n[avg]\n[soft]\n  tree = data/a.tree # old\ntree=b\n\n"
    cfg = parse_cfg(text)
    assert cfg.classes is cfg.layers[1]
    assert cfg.text_with(cfg.classes, "tree", "c.tree") == text.replace("  tree = data/a.tree # old", "tree=c.tree")
    assert parse_cfg(NET + CONV).classes is None


def test_a_comma_at_the_end_of_a_list_is_read_over():
    assert parse_cfg(NET + "[route]\nlayers=-1,\n").layers[0].values["layers"] == (-1,)


def test_an_unknown_option_is_a_warning_or_an_error():
    text = NET + "[conv]\n\nfiltres=4\n"
    (warning,) = parse_cfg(text, "a.cfg").warnings
    assert warning.startswith("a.cfg:7: [convolutional] filtres: unknown option")
    assert refusal(text, build=False, strict=True) == warning


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a.cfg: a cfg begins with [net]"),
        ("# nothing\n", "a.cfg: a cfg begins with [net]"),
        ("[conv]\nfilters=1\n", "a.cfg:1: [convolutional]: a cfg begins with [net]"),
        ("width=3\n[net]\n", "a.cfg:1: width=3: stands before the first section"),
        ("[net]\nwidth=3\nchannels=3\n", "a.cfg:1: [net] height: is missing"),
        ("[net]\nheight=3\nchannels=3\n", "a.cfg:1: [net] width: is missing"),
        ("[net]\nheight=3\nwidth=3\n", "a.cfg:1: [net] channels: is missing"),
        ("[net]\nwidth=0\nheight=3\nchannels=3\n", "a.cfg:2: [net] width: must be between 1 and 65,536, not 0"),
        (NET + "[yolo]\n", "a.cfg:5: [yolo]: unknown section; known are net, conv"),
        (NET + "[]\n", "a.cfg:5: []: a section is written [name]"),
        (NET + "[conv\n", "a.cfg:5: [conv: a section is written [name]"),
        (NET + NET, "a.cfg:5: [net]: a second [net]"),
        (NET + "[conv]\nfilters\n", "a.cfg:6: filters: expected [section] or key=value"),
        (NET + "[conv]\nfilters=\n", "a.cfg:6: filters=: expected"),
        (NET + "[conv]\n=3\n", "a.cfg:6: =3: expected"),
        (NET + "[conv]\nfilters=64x\n", "a.cfg:6: [convolutional] filters: must be a whole number, not 64x"),
        (NET + "[conv]\nfilters=6.5\n", "filters: must be a whole number, not 6.5"),
        (NET + "[conv]\nfilters=1_6\n", "filters: must be a whole number, not 1_6"),
        (NET + f"[conv]\nfilters={'9' * 4000}\n", f"filters: must be a whole number, not {'9' * 40}…"),
        (NET + "[conv]\npad=yes\n", "a.cfg:6: [convolutional] pad: must be 0 or 1, not yes"),
        (NET + "[dropout]\nprobability=half\n", "probability: must be a number, not half"),
        (NET + "[dropout]\nprobability=nan\n", "probability: must be a number, not nan"),
        (NET + "[shortcut]\nalpha=1e39\n", "alpha: must be a number, not 1e39"),
        (NET + "[route]\nlayers=1;2\n", "layers: must be whole numbers separated by commas, not 1;2"),
        (NET + "[region]\nanchors=1,,2\n", "anchors: must be numbers separated by commas, not 1,,2"),
        (NET + "x" * 90 + "\n", f"a.cfg:5: {'x' * 40}…: expected"),
    ],
)  # fmt: skip
def test_what_is_no_cfg_is_refused_with_its_line(text, says):
    assert says in refusal(text, build=False)


def test_what_cannot_be_read_is_refused_with_its_name(tmp_path):
    (tmp_path / "image.cfg").write_bytes(b"\x89PNG\xff\xfe")
    (tmp_path / "long.cfg").write_text("#" * (1 << 21))
    for name, says in {
        "image.cfg": "not text", "long.cfg": "2,097,152 bytes are too many", "none.cfg": "No such file",
        "": "directory", "\0.cfg": "cannot be read",
    }.items():  # fmt: skip
        with pytest.raises(WeightsError, match=says) as refused:
            read_cfg(f"{tmp_path}/{name}" if name else tmp_path)
        assert str(refused.value).startswith(str(tmp_path))


CONV = "[conv]\nfilters=8\nsize=1\n"


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ("", "a.cfg: a network needs at least one layer"),
        ("[region]\n", "a.cfg: a network needs at least one layer"),
        ("[region]\n[conv]\n", "a.cfg:5: [region]: must be the last section"),
        ("[conv]\n[region]\n[region]\n", "a.cfg:6: [region]: must be the last section"),
        (CONV + "[route]\nlayers=-2\n", "a.cfg:9: [route] layers: -2 means layer -1; here, at layer 1, 0 to 0 are"),
        (CONV + "[route]\nlayers=1\n", "a.cfg:9: [route] layers: 1 means layer 1; here, at layer 1, 0 to 0 are"),
        (CONV + "[route]\nlayers=0,7\n", "layers: 7 means layer 7"),
        ("[route]\nlayers=-1\n", "layers: -1 means layer -1"),
        (CONV + "[route]\n", "a.cfg:8: [route] layers: is missing"),
        (CONV + "[maxpool]\nstride=2\n[route]\nlayers=-1,0\n", "a.cfg:11: [route] layers: layer 0 gives 8x8x16"),
        (CONV + "[shortcut]\n", "a.cfg:8: [shortcut] from: is missing"),
        (CONV + "[shortcut]\nfrom=3\n", "a.cfg:9: [shortcut] from: 3 means layer 3"),
        (CONV + "[conv]\nsize=1x\n", "a.cfg:9: [convolutional] size: must be"),
        (CONV + "[reorg]\nstride=3\n", "a.cfg:9: [reorg] stride: 3 does not fit 8x8x16"),
        (CONV + "[reorg]\nstride=4\n", "stride: 4 does not fit 8x8x16"),
        (CONV + "[conv]\nsize=9\n", "a.cfg:8: [convolutional]: nothing is left of an input of 8x8x16"),
        (CONV + "[maxpool]\nsize=20\npadding=0\n", "a.cfg:8: [maxpool]: nothing is left"),
        (CONV + "[conv]\nfilters=9\ngroups=3\n", "a.cfg:10: [convolutional] groups: 3 groups do not divide 8 input"),
        (CONV + "[conv]\nfilters=9\ngroups=2\n", "a.cfg:10: [convolutional] groups: 2 groups do not divide 9 filters"),
        (CONV + "[conv]\ngroups=0\n", "groups: must be between 1 and"),
        (CONV + "[conv]\nfilters=-4\n", "filters: must be between 1 and 16,777,216, not -4"),
        (CONV + "[conv]\nstride=0\n", "stride: must be between 1 and 1,024, not 0"),
        (CONV + "[conv]\nactivation=mish\n", "a.cfg:9: [convolutional] activation: must be one of leaky, relu"),
        (CONV + "[conv]\nbinary=1\n", "a.cfg:9: [convolutional] binary: is not supported"),
        (CONV + "[conv]\nxnor=1\n", "xnor: is not supported"),
        (CONV + "[conv]\nflipped=1\n", "flipped: is not supported"),
        (CONV + "[conv]\nnumload=5\n", "numload: is not supported"),
        (CONV + "[reorg]\nreverse=1\n", "a.cfg:9: [reorg] reverse: is not supported"),
        (CONV + "[softmax]\nspatial=1\n", "a.cfg:9: [softmax] spatial: is not supported"),
        (CONV + "[softmax]\ngroups=3\n", "a.cfg:9: [softmax] groups: 3 groups do not divide 1024 values"),
        (CONV + "[softmax]\ntemperature=0\n", "temperature: must be above 0, not 0"),
        (CONV + "[dropout]\nprobability=1\n", "probability: must be from 0 to below 1, not 1"),
        (CONV + "[region]\nclasses=4\n", "a.cfg:6: [convolutional] filters: 8 channels reach [region]; 1 anchors x "
                                         "(5 + 4 classes) need 9"),
        (CONV + "[region]\nclasses=3\nnum=2\nanchors=1,2\n", "a.cfg:11: [region] anchors: 2 numbers; num=2 needs 4"),
        (CONV + "[region]\nclasses=3\nanchors=1,0\n", "anchors: must be above 0, not 0"),
        (CONV + "[region]\nclasses=0\n", "classes: must be between 1"),
        (CONV + "[region]\nclasses=3\ncoords=5\n", "a.cfg:10: [region] coords: is not supported; only 4 is"),
        (CONV + "[region]\nclasses=3\nbackground=1\n", "background: is not supported; only 0 is"),
        (CONV + "[region]\nclasses=3\nthresh=2\n", "thresh: must be from 0 to 1, not 2"),
        (CONV + "[region]\nclasses=3\nclass_scale=-1\n", "class_scale: must be 0 or more, not -1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused_with_its_line(layers, says):
    assert says in refusal(NET + layers)


def test_a_cfg_without_region_is_no_detector():
    for layers, end in ((CONV, "ends with [convolutional]"), ("", "has no layers")):
        with pytest.raises(WeightsError, match=r"a\.cfg: a detector ends with \[region\]"):
            parse_cfg(NET + layers, "a.cfg").region  # noqa: B018
        with pytest.raises(WeightsError) as refused:
            parse_cfg(NET + layers, "a.cfg").region  # noqa: B018
        assert str(refused.value).endswith(end)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_official_cfgs_have_their_numbers_of_parameters(shared, name):
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


# What is meant ill


def test_too_many_layers_are_refused():
    assert f"more than {MAX_LAYERS:,}" in refusal(NET + "[dropout]\n" * (MAX_LAYERS + 1), build=False)


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ("[conv]\nfilters=16000000\nsize=11\n", "a.cfg:6: [convolutional] filters: 16,000,000 filters over 3"),
        ("[conv]\nfilters=16000000\npadding=4\n", "a.cfg:5: [convolutional]: an output of 16000000x16x24"),
        ("[avg]\n" + "[conv]\nfilters=8000\n" * 6, "a.cfg:16: [convolutional]: with it the network has 32"),
        ("[avg]\n[conv]\nfilters=16000000\nbatch_normalize=1\n[conv]\nfilters=11\n", "with it the network has 288"),
        ("[avg]\n[conv]\nfilters=16777216\n" + "[conv]\nfilters=16777216\ngroups=16777216\n" * 9, "the network has"),
        ("[route]\nlayers=0\n", "layers: 0 means layer 0"),
        (CONV + "[route]\nlayers=-1,-1,-1,-1\n" * 100, "[route]: an output of"),
        (CONV + f"[route]\nlayers={'-1,' * 99}-1\n" * 1900, "[route]: an output of"),
        ("[conv]\npadding=1024\n" * 100, "[convolutional]: an output of"),
        ("[maxpool]\npadding=1024\n" * 100, "[maxpool]: an output of"),
        ("[avg]\n[conv]\nfilters=30\n[region]\nnum=1024\nclasses=1000000\n", "30 channels reach [region]"),
        (CONV + "[region]\nclasses=16000000\n", "classes: must be between 1 and 1,048,576"),
    ],
)  # fmt: skip
def test_a_cfg_that_asks_for_too_much_is_refused_before_memory_is_taken(layers, says, monkeypatch):
    def taken(*_args, **_options):
        pytest.fail("memory was taken")

    monkeypatch.setattr(torch.nn.Module, "to_empty", taken)
    assert says in refusal(NET + layers)


def test_the_limits_leave_room_for_real_networks():
    assert max(PARAMETERS.values()) * 4 < MAX_NUMBERS
    assert LARGEST_OUTPUT > 32 * 4096 * 4096


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("momentum=1", "train.momentum"), ("learning_rate=-1", "train.lr"), ("hue=3", "data.augment.hue"),
        ("saturation=0", "data.augment.saturation"), ("decay=-1", "train.weight_decay"),
        ("policy=random", "[net] policy: random is not supported"),
        ("policy=steps\nsteps=2,1\nscales=1,1", "must rise"),
        ("policy=steps\nsteps=2", "[net] steps: 1 steps for 0 scales"), ("batch=0", "[net] batch: must be"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_used_is_refused_with_its_cfg(option, says):
    text = "[net]\nwidth=16\nheight=8\nchannels=3\n" + option + "\n[conv]\nfilters=8\n[region]\nclasses=3\n"
    with pytest.raises(WeightsError) as refused:
        config_of(parse_cfg(text, "a.cfg"))
    assert says in str(refused.value)
    assert str(refused.value).startswith("a.cfg:")
    assert "\n" not in str(refused.value)


def all_of(text: str) -> Cfg | None:
    """Everything that is made of a cfg before an image comes; none where it is refused."""
    try:
        cfg = parse_cfg(text, "a.cfg")
        network = DarknetNetwork(cfg)
        config_of(cfg)
    except WeightsError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert "a.cfg" in str(error)  # noqa: PT017
        return None
    assert sum(value.numel() for value in network.state_dict().values()) <= network_module.MAX_NUMBERS
    return cfg


LINE = st.sampled_from(
    ["[net]", "[conv]", "[region]", "[route]", "[reorg]", "[softmax]", "[shortcut]", "[", "]", "width=8", "height=8",
     "channels=3", "filters=8", "layers=-1", "from=-1", "stride=2", "=", "a=b", "#", "tree=x", "classes=3"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(st.one_of(LINE, st.text(max_size=20)), max_size=12).map("\n".join)))
def test_no_text_breaks_the_reader(text):
    all_of(text)


EXTREMES = st.sampled_from(
    ["-1", "0", "1", "2", "7", "1024", "16777216", "16777217", "2147483647", "99999999999", "-5", ".5", "1e30", "-1e30",
     "1e400", "1,1", "-1,-1", "x"]
)  # fmt: skip


@st.composite
def mutated(draw):
    """The valid cfg with a few lines deleted, doubled, swapped or given another value."""
    lines = VALID.splitlines()
    for _ in range(draw(st.integers(1, 4))):
        at, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        match draw(st.sampled_from(["delete", "double", "swap", "value", "value", "value"])):
            case "delete":
                del lines[at]
            case "double":
                lines.insert(other, lines[at])
            case "swap":
                lines[at], lines[other] = lines[other], lines[at]
            case "value":
                lines[at] = lines[at].partition("=")[0] + "=" + draw(EXTREMES)
    return "\n".join(lines)


@pytest.fixture(scope="module")
def little_memory():
    """A limit that small networks reach: what is below is really allocated, many times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_module, "MAX_NUMBERS", 1 << 20)
        yield


@pytest.mark.usefixtures("little_memory")
@settings(max_examples=250, deadline=None)
@given(mutated())
def test_no_change_of_a_cfg_breaks_the_network(text):
    all_of(text)


def test_the_cfg_that_is_changed_is_valid():
    assert all_of(VALID) is not None


def test_all_refusals_of_a_cfg_have_one_class():
    assert issubclass(WeightsError, Yolo9kError)
    assert WeightsError.exit_code == 4
