"""Really trained weights of a network that stretched its images, evaluated both ways."""

import pytest

from yolo9k.datasets.autodetect import open_dataset
from yolo9k.datasets.load import read_annotations
from yolo9k.evaluation import evaluate_detector
from yolo9k.evaluation.coco import add_coco_metrics, read_ground_truth
from yolo9k.inference.detector import Detector


@pytest.mark.parametrize(("mode", "ap50"), [("letterbox", 0.128), ("stretch", 0.152)])
def test_coco_ap50_of_yolo_lite(shared, mode, ap50):
    weights = shared("data", "yolo-lite", "coco.weights")
    dataset = open_dataset(str(shared("data", "coco-mini")))
    detector = Detector.load(weights, resize_mode=mode, device="cpu", precision="float32")
    val = read_annotations(dataset, "val", "stop")
    scores, detections = evaluate_detector(detector, val)
    coco = add_coco_metrics(scores, detections, read_ground_truth(dataset, "val", val)).coco
    assert coco is not None
    assert round(coco["AP50"], 3) == ap50
