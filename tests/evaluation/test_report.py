from yolo9k.evaluation import evaluate, evaluate_detector
from yolo9k.evaluation.report import COLUMNS, protocol, summary, table_rows
from yolo9k.samples import Detections


def test_protocol_says_how_it_was_measured(detector, annotations):
    scores, _ = evaluate_detector(detector, annotations)
    text = " ".join(protocol(scores, 0.005, 0.45, 100))
    for part in ("confidence >= 0.005", "NMS 0.45", "100 detections", "difficult", "+1", "area"):
        assert part in text


def test_table_starts_with_all(detector, annotations):
    scores, _ = evaluate_detector(detector, annotations)
    rows = table_rows(scores)
    assert [row[0] for row in rows] == ["all", "cat", "dog"]
    assert {len(row) for row in rows} == {len(COLUMNS)}


def test_numbers_that_do_not_exist_are_a_dash(annotations):
    records = [annotations.records[0]]
    empty = evaluate([Detections.empty()], records, annotations.labels)
    assert "mAP50 0.0000" in summary(empty)[0]
    nothing = evaluate([], [], annotations.labels)
    assert table_rows(nothing) == [("all", 0, 0, "-", "-", "-", "-")]
    assert "mAP50 -" in summary(nothing)[0]


def test_coco_has_two_lines(detector, annotations):
    scores, _ = evaluate_detector(detector, annotations, coco=True)
    lines = summary(scores)
    assert lines[2].startswith("COCO  AP 0.")
    assert "AR large -" in lines[3]
