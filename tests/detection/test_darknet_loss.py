"""The region loss against Darknet's own gradients (`train-v2`: `delta_pre_*` is the negative gradient)."""

import json
import re

import numpy as np
import pytest
import torch

from yolo9k.boxes import cxcywh_to_xyxy
from yolo9k.config.schema import LossConfig
from yolo9k.detection.loss import RegionLoss
from yolo9k.samples import Batch
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.scores import LabelScores

VARIANTS = [
    "base", "warm", "warm_last", "norescore", "nobiasmatch", "nobiasmatch_norescore_warm", "noabsolute",
    "thresh", "scales", "nosoftmax", "cut", "empty", "half_empty",
]  # fmt: skip


class RawMap:
    """A head whose output is given: (B, A, 5 + K, H, W)."""

    def geometry(self, features):
        return features[:, :, :5]

    def class_logits(self, features, positions, nodes=None):
        image, anchor, row, column = positions.unbind(1)
        return features[image, anchor, :, row, column][:, 5:]


def region_options(text):
    """The `[region]` section of a cfg as our options, with its anchors and softmax flag."""
    section = dict(re.findall(r"^(\w+)\s*=\s*(.+)$", text.split("[region]")[1], re.MULTILINE))
    options = LossConfig(
        **{name: float(section[name]) for name in ("object_scale", "noobject_scale", "class_scale", "coord_scale")},
        thresh=float(section["thresh"]),
        rescore=section["rescore"] == "1",
        bias_match=section["bias_match"] == "1",
    )
    anchors = torch.tensor([float(v) for v in section["anchors"].split(",")]).view(-1, 2)
    return options, anchors, "softmax" if section["softmax"] == "1" else "logistic"


def as_batch(truth, size):
    """Darknet's truth slots (B, 30, 5), relative, as a batch of `size` pixels."""
    rows = []
    for image, slots in enumerate(truth):
        for slot in slots:
            if slot[0] == 0:
                break
            rows.append((image, slot))
    boxes = np.array([slot[:4] for _, slot in rows], np.float32).reshape(-1, 4) * size
    return Batch(
        images=torch.zeros(len(truth), 3, size, size),
        image_index=torch.tensor([image for image, _ in rows], dtype=torch.int64),
        xyxy=cxcywh_to_xyxy(torch.from_numpy(boxes)),
        label=torch.tensor([int(slot[4]) for _, slot in rows], dtype=torch.int64),
        ignore=torch.zeros(len(rows), dtype=torch.bool),
        labelled_image=torch.zeros(0, dtype=torch.int64),
        image_label=torch.zeros(0, dtype=torch.int64),
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_gradient_equals_darknet(shared, name):
    folder = shared("golden", "darknet", "train-v2")
    variants = json.loads((folder / "variants.json").read_text())["region_variants"]
    assert {variant["name"] for variant in variants} == set(VARIANTS)
    variant = next(v for v in variants if v["name"] == name)
    options, anchors, kind = region_options((folder / variant["cfg"]).read_text())
    expected, given = np.load(folder / "expected.npz"), np.load(folder / "input.npz")
    raw = torch.from_numpy(expected["region_in"]).requires_grad_()
    loss = RegionLoss(anchors, LabelScores(WordTree.flat([str(i) for i in range(20)]), kind), options)
    parts = loss(RawMap(), raw, as_batch(given[variant["truth"]], 64), seen=variant["seen_during_forward"])
    sum(parts.values()).backward()
    reference = -expected[f"delta_pre_{name}"]
    error = np.abs(raw.grad.numpy() - reference).max() / np.abs(reference).max()
    assert error < 5e-5
