"""`Detector` on Darknet files, against the reference implementation of Darknet's own steps."""

import numpy as np
import pytest
import torch
from PIL import Image

from yolo9k import Detector, darknet
from yolo9k.boxes import area, clip, cxcywh_to_xyxy
from yolo9k.images import read_image
from yolo9k.pretrained import DarknetFiles

CONF, IOU = 0.12, 0.45


def by_darknet(folder, image, iou=IOU):
    """Return rows of (label, score, box) as from `detector test`, clipped to the image."""
    net = darknet.load(folder / "net.cfg", folder / "net.weights")
    size_wh = image.shape[1], image.shape[0]
    with torch.no_grad():
        raw = net(torch.from_numpy(darknet.letterbox(image, net.cfg.size_wh)))
    detections = darknet.detections(raw, net.cfg, size_wh, CONF, relative=False)
    kept = darknet.nms_sort(detections, iou)
    box, label = (kept.prob > 0).nonzero().unbind(1)
    corners = clip(cxcywh_to_xyxy(kept.boxes[box]), size_wh)
    rows = zip(label.tolist(), kept.prob[box, label].tolist(), corners.tolist(), area(corners).tolist(), strict=True)
    return sorted(row[:3] for row in rows if row[3] > 0)  # Darknet keeps boxes in the padding


def compare(detections, expected):
    rows = sorted(zip(detections.label.tolist(), detections.score.tolist(), detections.xyxy.tolist(), strict=True))
    assert [row[0] for row in rows] == [row[0] for row in expected]
    for (_, score, box), (_, expected_score, expected_box) in zip(rows, expected, strict=True):
        assert score == pytest.approx(expected_score, abs=1e-5)
        assert box == pytest.approx(expected_box, abs=1e-2)


IMAGES = ["im0_37x53", "im1_64x41", "im3_101x29"]


@pytest.mark.parametrize("case", ["forward-v2", "forward-tiny"])
@pytest.mark.parametrize("name", IMAGES)
def test_a_darknet_file_detects_as_darknet_does(shared, case, name):
    folder = shared("golden", "darknet", case)
    image = read_image(shared("golden", "darknet", "image-ops", f"{name}.png"))
    expected = by_darknet(folder, image)
    assert len(expected) > 3
    files = DarknetFiles(cfg=folder / "net.cfg")
    detector = Detector.load(folder / "net.weights", files=files, device="cpu", precision="float32")
    compare(detector(image, conf=CONF, iou=IOU), expected)


@pytest.mark.parametrize("name", IMAGES)
def test_a_tree_is_descended_as_darknet_does(shared, name):
    """Compared before NMS, which is per label in Darknet and per lineage here."""
    folder = shared("golden", "darknet", "forward-9k")
    image = read_image(shared("golden", "darknet", "image-ops", f"{name}.png"))
    expected = by_darknet(folder, image, iou=1.0)
    assert len({label for label, *_ in expected}) > 2
    files = DarknetFiles(cfg=folder / "net.cfg", tree=folder / "mini.tree", names=folder / "mini.names")
    detector = Detector.load(folder / "net.weights", files=files, device="cpu", precision="float32")
    class_decoder = detector.class_decoder(rule="darknet")
    compare(detector(image, conf=CONF, iou=1.0, class_decoder=class_decoder), expected)


def test_sizes_are_checked_against_the_cfg(shared, tmp_path):
    folder = shared("golden", "darknet", "forward-v2")
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    files = DarknetFiles(cfg=folder / "net.cfg")
    detector = Detector.load(folder / "net.weights", files=files, size_wh=(64, 48), device="cpu")
    assert detector.size_wh == (64, 48)
    detector(tmp_path / "a.png")
