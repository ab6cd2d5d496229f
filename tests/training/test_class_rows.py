"""Rows of heads and classifiers move by class."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_data import write_toy
from typer.testing import CliRunner

from yolo9k import checkpoint
from yolo9k.build import build_classifier, build_codec, build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.cli import app
from yolo9k.config import ClassifierConfig, load_config, updated
from yolo9k.darknet import parse_cfg
from yolo9k.darknet.recipe import config_from_cfg
from yolo9k.models.head import GEOMETRY
from yolo9k.pretrained import _unnamed_labels
from yolo9k.training.class_rows import NEW, HeadLayout, class_note, match_classes
from yolo9k.training.transfer import transfer
from yolo9k.wordtree import WordTree

DETECTOR = load_config(
    None, ["model.name=yolov2-tiny", "model.width=0.05", "model.anchors=[[1, 2], [3, 4]]", "model.norm.kind=group"]
)
CLASSIFIER = ClassifierConfig.model_validate({"task": "classify", "model": {"name": "darknet19", "width": 0.05}})
NAMES = ("red", "green", "blue", "black", "white", "grey")
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
CFG = (
    "[net]\nwidth=64\nheight=64\nchannels=3\n[convolutional]\nbatch_normalize=1\nfilters=6\nsize=3\nstride=32\npad=1\n"
    "activation=leaky\n[convolutional]\nbatch_normalize={norm}\nfilters={filters}\nsize=1\nactivation=linear\n"
    "[region]\nanchors=1,2, 3,4\nclasses={classes}\nnum=2\nsoftmax=1\n"
)


def darknet_config(classes, norm=0):
    return config_from_cfg(parse_cfg(CFG.format(classes=classes, filters=2 * (5 + classes), norm=norm)))


def build(config, labels, seed):
    torch.manual_seed(seed)
    is_classifier = isinstance(config, ClassifierConfig)
    network = (build_classifier if is_classifier else build_network)(config.model, labels).eval()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.uniform_(0.1, 1.0) if name.endswith("var") else value.normal_(0, 0.5)
    return network


def stored_of(config, labels, seed=1):
    return Checkpoint(config, labels, {k: v.clone() for k, v in build(config, labels, seed).state_dict().items()})


def outputs(network, config):
    """Return class logits (..., K) and raw boxes of `IMAGES`."""
    with torch.no_grad():
        raw = network(IMAGES)
    if isinstance(config, ClassifierConfig):
        return raw, torch.empty(0)
    rows = raw.unflatten(1, (2, -1))
    return rows[:, :, GEOMETRY:].movedim(2, -1), rows[:, :, :GEOMETRY]


def compare(config, source_labels, target_labels, target_config=None):
    """Transfer between two models; check all outputs, return the report."""
    stored = stored_of(config, source_labels)
    target_config = target_config or config
    network = build(target_config, target_labels, seed=2)
    fresh = [value.clone() for value in list(network.state_dict().values())]
    report = transfer(stored, network, target_config, target_labels)
    logits, boxes = outputs(network, target_config)
    old = build(config, source_labels, seed=1)
    old_logits, old_boxes = outputs(old, config)
    torch.testing.assert_close(boxes, old_boxes)
    for index, name in enumerate(target_labels.ids):
        if name in source_labels.ids:
            expected = old_logits[..., source_labels.ids.index(name)]
            torch.testing.assert_close(logits[..., index], expected, rtol=1e-4, atol=1e-4)
    last, fresh_last = list(network.state_dict().values())[-1], fresh[-1]
    rows = last.view(-1, len(target_labels) + (0 if isinstance(config, ClassifierConfig) else GEOMETRY))
    fresh_rows = fresh_last.view(rows.shape)
    for index, name in enumerate(reversed(target_labels.ids), 1):
        assert torch.equal(rows[:, -index], fresh_rows[:, -index]) == (name not in source_labels.ids)
    return report


names_lists = st.lists(st.sampled_from(NAMES), min_size=1, unique=True)


@settings(max_examples=15)
@given(source=names_lists, target=names_lists, kind=st.sampled_from(["own", "darknet", "classifier"]))
def test_a_common_class_has_the_same_logits_whatever_the_order_and_the_other_classes(source, target, kind):
    source_labels, labels = WordTree.flat(source), WordTree.flat(target)
    if kind == "darknet":
        configs = darknet_config(len(source)), darknet_config(len(target))
    else:
        configs = (DETECTOR, DETECTOR) if kind == "own" else (CLASSIFIER, CLASSIFIER)
    report = compare(configs[0], source_labels, labels, configs[1])
    common = [name for name in target if name in source]
    if common:
        assert f"{len(common)} of {len(target)} classes by name ({', '.join(common)})" in report.classes
    else:
        assert "no class in common" in report.classes
    assert report.new == report.unused == ()


def test_the_report_says_which_classes_kept_their_weights():
    report = compare(DETECTOR, WordTree.flat(["red", "blue", "black"]), WordTree.flat(["blue", "green", "red"]))
    assert report.classes == "head: 2 of 3 classes by name (blue, red); new: green; not used: black"
    report = compare(DETECTOR, WordTree.flat(["cat", "dog"]), WordTree.flat(["bolt", "nut"]))
    assert report.classes == ("head: no class in common: the weights have cat, dog; all 2 classes are new (bolt, nut)")


def test_the_report_is_bounded():
    many = WordTree.flat([f"class {index}" for index in range(500)])
    report = compare(DETECTOR, many, many)
    assert report.classes.endswith("class 5, … 500 in total); new: none")
    assert len(report.classes) < 200


def test_nodes_of_trees_move_by_id_not_by_place_or_name():
    source = WordTree(("a", "b", "a1", "a2", "b1"), ("x", "x", "p", "q", "r"), (-1, -1, 0, 0, 1))
    target = WordTree(("b", "a", "c", "b1", "a2", "a1"), ("p", "q", "r", "x", "x", "y"), (-1, -1, -1, 0, 1, 1))
    report = compare(DETECTOR, source, target)
    assert report.classes == "head: 5 of 6 classes by id (p, q, x, x, y); new: r"


def test_classes_of_flat_lists_move_by_another_spelling_or_a_synonym():
    darknet = ["person", "aeroplane", "motorbike", "sofa", "pottedplant", "diningtable", "tvmonitor", "class 1"]
    coco = ["couch", "airplane", "motorcycle", "potted plant", "dining table", "tv", "person", "class 2", "Person_2"]
    layouts = HeadLayout(WordTree.flat(darknet)), HeadLayout(WordTree.flat(coco))
    matched = match_classes(*layouts)
    assert matched == [3, 1, 2, 4, 5, 6, 0, NEW, NEW]
    note = class_note(*layouts, matched)
    assert "6 by another spelling or a synonym: sofa -> couch, aeroplane -> airplane, " in note
    assert "not used: class 1" in note


def test_a_spelling_that_a_list_has_twice_or_that_is_another_number_does_not_move():
    def match(source, target):
        return match_classes(HeadLayout(WordTree.flat(source)), HeadLayout(WordTree.flat(target)))

    assert match(["Cat", "CAT", "sofa"], ["cat", "couch", "Sofa"]) == [NEW] * 3
    assert match(["1-2", "A-", "-1"], ["12", "A", "1"]) == [NEW] * 3
    assert match(["sofa", "couch"], ["couch", "chair"]) == [1, NEW]


def test_a_flat_list_moves_into_a_tree_by_id_name_or_alias_if_exactly_one_node_has_it():
    tree = WordTree(("n0", "n1", "n2", "n3"), ("animal", "dog", "crane", "crane"), (-1, 0, 0, 0), {"hound": 1})
    flat = WordTree.flat(["crane", "hound", "n0", "ship"])
    assert match_classes(HeadLayout(flat), HeadLayout(tree)) == [2, 1, NEW, NEW]
    assert match_classes(HeadLayout(tree), HeadLayout(flat)) == [NEW, 1, 0, NEW]
    both = WordTree.flat(["hound", "dog"])  # two classes for one node: neither is sure
    assert match_classes(HeadLayout(both), HeadLayout(tree)) == [NEW] * 4


def test_darknet_weights_without_names_are_taken_in_order_if_the_counts_agree():
    unnamed = dataclasses.replace(stored_of(DETECTOR, _unnamed_labels(3)), darknet={"blocks": 99})
    labels = WordTree.flat(["2", "1", "0"])
    network = build(DETECTOR, labels, seed=2)
    report = transfer(unnamed, network, DETECTOR, labels)
    assert report.classes == "head: the classes of the weights have no names: taken in order (2, 1, 0)"
    assert torch.equal(network.head.conv.weight, unnamed.weights["head.conv.weight"])
    labels = WordTree.flat(["0", "1"])
    network = build(DETECTOR, labels, seed=2)
    report = transfer(unnamed, network, DETECTOR, labels)
    assert report.classes == "head: the 3 classes of the weights have no names: all 2 classes are new"
    assert torch.equal(network.head.conv.bias[:5], unnamed.weights["head.conv.bias"][:5])


@pytest.mark.parametrize("norm", [0, 1])
def test_with_other_anchors_boxes_stay_the_same(norm):
    config = darknet_config(2, norm)
    cfg = config.model.cfg.replace("1,2, 3,4", "2,2, 3,1")
    other = config_from_cfg(parse_cfg(cfg))
    labels = WordTree.flat(["a", "b"])
    network = build(other, labels, seed=2)
    report = transfer(stored_of(config, labels), network, other, labels)
    assert report.classes.endswith(
        "other anchors: the biases of width and height were changed so that boxes stay the same"
    )
    boxes = []
    for model, each in ((build(config, labels, seed=1), config), (network, other)):
        with torch.no_grad():
            geometry = model(IMAGES).unflatten(1, (2, -1))[:, :, :GEOMETRY]
        boxes.append(build_codec(each.model, model).decode(geometry).xyxy())
    torch.testing.assert_close(boxes[1], boxes[0])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"anchors": ((1.0, 2.0),)}, "the weights have 2 anchors, the model 1"),
        ({"location": "offset"}, "the location is direct in the weights, offset in the model"),
    ],
)
def test_nothing_of_the_head_moves_if_its_boxes_mean_something_else(changes, reason):
    config = updated(DETECTOR, {f"model.{key}": value for key, value in changes.items()})
    labels = WordTree.flat(["a", "b"])
    network = build(config, labels, seed=2)
    before = network.head.conv.weight.clone()
    report = transfer(stored_of(DETECTOR, labels), network, config, labels)
    assert report.new == ("head",)
    assert report.classes == f"head: new: {reason}"
    assert torch.equal(network.head.conv.weight, before)


def test_a_head_with_other_inputs_is_new():
    config, labels = updated(DETECTOR, {"model.width": 0.1}), WordTree.flat(["a", "b"])
    report = transfer(stored_of(DETECTOR, labels), build(config, labels, seed=2), config, labels)
    assert "head" in report.new
    assert report.classes == "head: new: it has other inputs"


def test_the_rows_of_a_classifier_never_move_to_a_detector():
    cfg = CFG.format(classes=1, filters=12, norm=0)
    classifier = config_from_cfg(parse_cfg(cfg.partition("[region]")[0] + "[avgpool]\n[softmax]\n"))
    labels = WordTree.flat([f"k{index}" for index in range(12)])
    detector = config_from_cfg(parse_cfg(cfg))
    network = build(detector, WordTree.flat(["k0"]), seed=2)
    report = transfer(stored_of(classifier, labels), network, detector, WordTree.flat(["k0"]))
    assert report.loaded == ("layers.0",)
    assert report.classes == "layers.1: new: the weights are a classifier's, the model is a detector"


def test_the_count_of_batches_moves_with_a_norm_of_the_head():
    config, labels = darknet_config(2, norm=1), WordTree.flat(["a", "b"])
    stored, network = stored_of(config, labels), build(config, labels, seed=2)
    (name,) = (name for name in stored.weights if name == "layers.1.norm.num_batches_tracked")
    stored.weights[name].fill_(7)
    transfer(stored, network, config, labels)
    assert network.state_dict()[name] == 7


# --- from the command line


def reorder(folder: Path, names: list[str], order: list[int]) -> None:
    """Give a toy data set its classes in another order."""
    data = yaml.safe_load((folder / "data.yaml").read_text())
    data["names"] = {index: names[old] for index, old in enumerate(order)}
    (folder / "data.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    for path in folder.glob("labels/*/*.txt"):
        lines = [line.split(maxsplit=1) for line in path.read_text().splitlines()]
        path.write_text("".join(f"{order.index(int(index))} {rest}\n" for index, rest in lines))


def test_training_from_a_run_with_another_class_order(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    toy = write_toy(first, {"train": 4, "val": 2}, side_px=64)
    shutil.copytree(first, second)
    order = list(range(len(toy.labels)))[::-1]
    reorder(second, list(toy.labels), order)

    def train(name, *options):
        done = CliRunner().invoke(app, [
            "train", "--config", "small.yaml", "--dataset", str(tmp_path / name), "--runs", str(tmp_path / "runs"),
            "--name", name, "--steps", "1", "--lr", "1e-9", "--size", "64", "--batch", "2", "--device", "cpu",
            "--workers", "0", *options,
            *(f"--set={change}" for change in ("model.width=0.05", "model.num_anchors=2", "data.fit_aspect=false",
              "train.warmup=0", "train.eval_every=0", "train.precision=float32", "train.ema=0")),
        ])  # fmt: skip
        assert done.exit_code == 0, done.output
        return done.output

    train("first")
    output = train("second", "--weights", str(tmp_path / "runs" / "first"))
    reversed_names = ", ".join(toy.labels[index] for index in order)
    assert f"head: {len(order)} of {len(order)} classes by name ({reversed_names}); new: none" in " ".join(
        output.split()
    )
    old, new = (checkpoint.load(tmp_path / "runs" / name / "checkpoints" / "last.pt") for name in ("first", "second"))
    assert new.labels.ids == tuple(reversed(old.labels.ids))
    weights = [stored.weights["head.conv.weight"].unflatten(0, (2, -1)) for stored in (old, new)]
    torch.testing.assert_close(weights[1][:, GEOMETRY:].flip(1), weights[0][:, GEOMETRY:])
    torch.testing.assert_close(weights[1][:, :GEOMETRY], weights[0][:, :GEOMETRY])
