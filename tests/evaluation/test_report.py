from yolo9k.detection.thresholds import Thresholds
from yolo9k.evaluation import add_coco_metrics, evaluate, evaluate_detector
from yolo9k.evaluation.report import COLUMNS, DEPTH_COLUMNS, columns, depth_rows, protocol, summary, table_rows
from yolo9k.metrics.coco_packages import choose_package
from yolo9k.samples import Detections


def test_protocol_describes_the_measurement(detector, annotations):
    scores, _ = evaluate_detector(detector, annotations)
    text = " ".join(protocol(scores, Thresholds(0.005, 0.45, 100)))
    for part in ("confidence >= 0.005", "NMS IoU 0.45", "100 detections", "difficult", "+1", "area"):
        assert part in text


def test_protocol_names_the_package_of_the_coco_metrics(detector, annotations):
    scores, detections = evaluate_detector(detector, annotations)
    thresholds = Thresholds()
    assert not any("COCO" in line for line in protocol(scores, thresholds))
    scores = add_coco_metrics(scores, detections)
    assert protocol(scores, thresholds)[-1] == f"COCO: computed by {choose_package()}"
    assert scores.to_dict()["coco_package"] == choose_package()


def test_table_starts_with_all(detector, annotations):
    scores, _ = evaluate_detector(detector, annotations)
    rows = table_rows(scores)
    assert [row[0] for row in rows] == ["all", "cat", "dog"]
    assert {len(row) for row in rows} == {len(COLUMNS)}


def test_undefined_numbers_are_a_dash(annotations):
    records = [annotations.records[0]]
    empty = evaluate([Detections.empty()], records, annotations.labels)
    assert "mAP50 0.0000" in summary(empty)[0]
    no_images = evaluate([], [], annotations.labels)
    assert table_rows(no_images) == [("all", 0, 0, "-", "-", "-", "-")]
    assert "mAP50 -" in summary(no_images)[0]


def test_coco_has_two_lines(detector, annotations):
    lines = summary(add_coco_metrics(*evaluate_detector(detector, annotations)))
    assert lines[2].startswith("COCO  AP 0.")
    assert "AR large -" in lines[3]


def test_rows_show_the_supervision_if_it_is_known(tree_detector, tree_annotations, detector, annotations):
    scores, _ = evaluate_detector(tree_detector, tree_annotations)
    assert columns(scores) == (*COLUMNS, "supervision")
    assert [row[-1] for row in table_rows(scores)] == ["", "box", "image-level", "image-level"]
    assert columns(evaluate_detector(detector, annotations)[0]) == COLUMNS


def test_the_summary_of_a_tree_has_supervision_and_depth(tree_detector, tree_annotations):
    scores, _ = evaluate_detector(tree_detector, tree_annotations, descent=tree_detector.default_decoder)
    assert summary(scores)[2:] == [
        "supervision box: 1 labels  mAP50 1.0000  mAP50-95 1.0000",
        "supervision image-level: 2 labels  mAP50 0.5000  mAP50-95 0.5000",
        "label tree: 3 of 3 boxes detected, exact label 0.0000; mean depth: ground truth 1.3333, predicted 1.0000",
    ]
    text = " ".join(protocol(scores, Thresholds(0.005, 0.45, 100)))
    assert "all its ancestors" in text
    assert "roots have depth 0" in text


def test_each_depth_has_a_row(tree_detector, tree_annotations):
    scores, _ = evaluate_detector(tree_detector, tree_annotations, descent=tree_detector.default_decoder)
    rows = depth_rows(scores.depth)
    assert {len(row) for row in rows} == {len(DEPTH_COLUMNS)}
    assert rows[2] == (2, 1, 0.0, 1.0, 0.0, 0.0)
