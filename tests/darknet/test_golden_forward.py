"""Layers, decoding and NMS against Darknet's arrays (golden `forward-*`, `bn-eps`)."""

import numpy as np
import pytest
import torch

from yolo9k import darknet
from yolo9k.wordtree import read_map

NETS = ["forward-v2", "forward-tiny", "forward-9k"]


@pytest.mark.parametrize("case", NETS, indirect=True)
@torch.no_grad()
def test_every_layer(case):
    image = torch.from_numpy(case.given["image"])
    net = case.net("cpu")
    outputs = net.layer_outputs(image)
    keys = [key for key in case.expected if key.startswith("L")]
    assert len(keys) == len(outputs)
    for key, output in zip(keys, outputs, strict=True):
        case.equal(key, output)
    case.equal("region_in", net(image).reshape(case.expected["region_in"].shape))
    case.equal("region_out", outputs[-1].reshape(case.expected["region_out"].shape))
    cudnn = case.net()
    case.equal("region_in_cudnn", cudnn(image).reshape(case.expected["region_in"].shape))
    case.equal("region_out_cudnn", cudnn.layer_outputs(image)[-1].reshape(case.expected["region_in"].shape))


@pytest.mark.parametrize("case", NETS[:2], indirect=True)
@torch.no_grad()
def test_boxes_and_nms(case):
    cfg, raw = case.folder / "net.cfg", torch.from_numpy(case.expected["region_in"])
    thresh, hier = float(case.given["thresh"]), float(case.given["hier"])
    sizes = {"": tuple(int(v) for v in case.given["orig_wh"])}
    for key in case.expected:
        if key.startswith("det_box_abs_"):
            w, h = key.removeprefix("det_box_abs_").split("x")
            sizes[f"_{w}x{h}"] = (int(w), int(h))
    for suffix, size in sizes.items():
        detections = darknet.detections(raw, cfg, size, thresh, hier)
        case.equal(f"det_box{suffix}", detections.boxes)
        case.equal(f"det_box_abs{suffix}", darknet.detections(raw, cfg, size, thresh, hier, relative=False).boxes)
    detections = darknet.detections(raw, cfg, sizes[""], thresh, hier)
    case.equal("det_obj", detections.objectness)
    case.equal("det_prob", detections.prob)
    for percent in (45, 30):
        for name, nms in (("sort", darknet.nms_sort), ("obj", darknet.nms_obj)):
            kept = nms(detections, percent / 100)
            key = f"det_nms_{name}_{percent}"
            if f"{key}_obj" in case.expected:
                case.equal(f"{key}_obj", kept.objectness)
                case.equal(f"{key}_prob", kept.prob)


@pytest.mark.parametrize("case", ["forward-9k"], indirect=True)
@torch.no_grad()
def test_tree_modes(case):
    net = case.net()
    region, scores = net.region, net.scores()
    raw = torch.from_numpy(case.expected["region_in"])
    logits = raw[:, 5:].permute(0, 2, 3, 1).reshape(-1, region.classes)
    conditional, absolute = scores.conditional(logits).exp(), scores.absolute(logits).exp()
    grid = case.expected["abs_prob_all"].shape

    def to_grid(values):
        return values.reshape(grid[0], grid[2], grid[3], -1).permute(0, 3, 1, 2)

    case.equal("abs_prob_all", to_grid(absolute))
    activated = region.activate(raw[None], scores)[
        0
    ]  # Darknet overwrites the conditional probabilities with absolute ones
    case.equal("region_out_after_get_boxes", torch.cat([activated[:, :5], to_grid(absolute)], dim=1))
    leaves = torch.from_numpy(net.labels.child_group < 0)
    case.equal("abs_prob_leaves", to_grid(absolute * leaves))
    case.equal("hier_probability_a0_loc0", absolute[0])
    thresholds = [float(value) for value in case.expected["top_thresholds"]]
    case.equal("top_thresholds", thresholds)
    for key, probability in (("top_on_conditional", conditional), ("top_on_absolute", absolute)):
        nodes = [scores.descend(probability, value).reshape(grid[0], *grid[2:]) for value in thresholds]
        case.equal(key, torch.stack(nodes))


@pytest.mark.parametrize("case", ["forward-9k"], indirect=True)
@torch.no_grad()
def test_tree_detections(case):
    cfg, raw = case.folder / "net.cfg", torch.from_numpy(case.expected["region_in"])
    size = tuple(int(v) for v in case.given["orig_wh"])
    thresh = float(case.given["thresh"])
    for percent in (30, 50, 80):
        detections = darknet.detections(raw, cfg, size, thresh, percent / 100)
        for part, value in (("box", detections.boxes), ("obj", detections.objectness), ("prob", detections.prob)):
            case.equal(f"det_h{percent}_{part}", value)
        kept = darknet.nms_sort(detections, 0.45)
        case.equal(f"det_h{percent}_nms_sort_45_obj", kept.objectness)
        case.equal(f"det_h{percent}_nms_sort_45_prob", kept.prob)
    case.equal("det_box_abs", darknet.detections(raw, cfg, size, thresh, relative=False).boxes)
    detections = darknet.detections(raw, cfg, size, float(case.given["map_thresh"]), map=case.folder / "eval200.map")
    for part, value in (("box", detections.boxes), ("obj", detections.objectness), ("prob", detections.prob)):
        case.equal(f"det_map_{part}", value)
    kept = darknet.nms_sort(detections, 0.45)
    case.equal("det_map_nms_sort_45_prob", kept.prob)
    case.equal("det_map_nms_sort_45_obj", kept.objectness)
    assert read_map(case.folder / "eval200.map", 31) == tuple(case.given["map"])


@pytest.mark.parametrize("case", ["forward-9k"], indirect=True)
def test_tree_arrays(case):
    tree = case.net().labels
    arrays = {
        "parent": tree.parents, "group": tree.group, "child": tree.child_group, "leaf": tree.leaves.astype(int),
        "group_size": np.diff(tree.group_start), "group_offset": tree.group_start[:-1],
    }  # fmt: skip
    for name, values in arrays.items():
        case.equal(f"tree_{name}", values)


@pytest.mark.parametrize("case", ["bn-eps"], indirect=True)
@torch.no_grad()
def test_both_formulas_of_batch_norm(case):
    image = torch.from_numpy(case.given["image"])
    case.equal("out_cpu", case.net("cpu")(image))
    case.equal("out_cudnn", case.net("cudnn")(image))


@pytest.mark.parametrize("case", NETS[:2], indirect=True)
def test_seen_in_both_headers(case):
    header = case.net().origin.header
    assert header.seen == int(case.expected["det_seen_in_file"])
    assert header.has_long_seen == ("tiny" not in case.folder.name)


EXCLUDED = {
    "_order": "the order of detections after NMS is unspecified (README of the data)",
    "det_seen_in_file": "compared with the header above",
}
TESTS = {
    "forward-v2": [test_every_layer, test_boxes_and_nms],
    "forward-tiny": [test_every_layer, test_boxes_and_nms],
    "forward-9k": [test_every_layer, test_tree_modes, test_tree_detections, test_tree_arrays],
    "bn-eps": [test_both_formulas_of_batch_norm],
}


@pytest.mark.parametrize("case", [*NETS, "bn-eps"], indirect=True)
def test_all_arrays_are_compared(case):
    for test in TESTS[case.folder.name]:
        test(case)
    missing = set(case.expected) - case.compared
    assert [key for key in missing if not any(part in key for part in EXCLUDED)] == []
