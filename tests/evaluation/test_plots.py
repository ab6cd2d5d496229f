from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from yolo9k.errors import MachineError
from yolo9k.evaluation import evaluate, evaluate_detector
from yolo9k.evaluation.plots import (
    OUTCOME_COLOURS,
    draw_worst,
    plot_confusion,
    plot_levels,
    plot_precision_recall,
    write_plots,
)
from yolo9k.metrics import ConfusionMatrix
from yolo9k.samples import BoxLabels, Detections
from yolo9k.wordtree import WordTree


def test_writes_all_plots(tmp_path, detector, annotations):
    scores, detections = evaluate_detector(detector, annotations)
    paths = write_plots(tmp_path / "plots", scores, detections)
    assert [path.name for path in paths] == [
        "precision_recall.png",
        "f1_confidence.png",
        "confusion.png",
        "predictions.jpg",
        "worst_misses.jpg",
    ]
    for path in paths:
        with Image.open(path) as image:
            assert min(image.size) > 200


def test_no_boxes_and_no_detections(tmp_path, annotations):
    records = [replace(annotations.records[0], boxes=BoxLabels.of([], []))]
    scores = evaluate([Detections.empty()], records, annotations.labels)
    paths = write_plots(tmp_path, scores, [Detections.empty()])
    assert "worst_misses.jpg" not in [path.name for path in paths]


def test_a_folder_that_cannot_be_written(tmp_path, detector, annotations):
    scores, detections = evaluate_detector(detector, annotations)
    (tmp_path / "plots").write_text("a file")
    with pytest.raises(MachineError, match="cannot be written"):
        write_plots(tmp_path / "plots", scores, detections)


def test_outcomes_have_their_colours(detector, annotations):
    scores, detections = evaluate_detector(detector, annotations)
    sheet = draw_worst(scores, detections)
    for outcome in ("true positive", "false positive", "false negative"):
        assert (sheet[40:] == OUTCOME_COLOURS[outcome]).all(axis=2).any(), outcome


def test_only_the_best_and_the_worst_of_many_classes_are_named(annotations):
    names = [f"label {i}" for i in range(80)]
    boxes = np.tile(np.array([[0, 0, 20, 20]], np.float32), (80, 1))
    record = replace(annotations.records[0], boxes=BoxLabels.of(boxes, range(80)))
    detections = Detections(boxes[:40], np.full(40, 0.9, np.float32), np.arange(40))
    scores = evaluate([detections], [record], WordTree.flat(names))
    axes = plot_precision_recall(scores).axes[0]
    assert len(axes.lines) == 81
    assert len(axes.get_legend().get_texts()) == 7


def test_only_the_most_confused_of_many_classes_are_shown():
    count = 300
    counts = np.diag(np.full(count + 1, 5))
    counts[250, 7] = 3
    confused = ConfusionMatrix(np.arange(count), counts)
    axes = plot_confusion(confused, WordTree.flat([f"n{i}" for i in range(count)])).axes[0]
    shown = [text.get_text() for text in axes.get_yticklabels()]
    assert len(shown) == 101
    assert {"n7", "n250", "background"} <= set(shown)


def test_a_tree_has_a_depth_plot_and_no_confusion_matrix(tmp_path, tree_detector, tree_annotations):
    scores, detections = evaluate_detector(tree_detector, tree_annotations, descent=tree_detector.default_decoder)
    paths = write_plots(tmp_path, scores, detections)
    assert [path.name for path in paths] == [
        "precision_recall.png",
        "f1_confidence.png",
        "depth.png",
        "predictions.jpg",
        "worst_misses.jpg",
    ]


def test_bars_of_a_depth_add_up_to_1(tree_detector, tree_annotations):
    scores, _ = evaluate_detector(tree_detector, tree_annotations, descent=tree_detector.default_decoder)
    axes = plot_levels(scores.depth.levels, "title").axes[0]
    heights = np.array([[bar.get_height() for bar in kind] for kind in axes.containers])
    assert heights.shape == (4, 3)
    assert heights.sum(axis=0) == pytest.approx([1, 1, 1])
    assert [text.get_text() for text in axes.texts] == ["3", "3", "1"]


def test_in_a_tree_images_show_one_label_per_box(tree_detector, tree_annotations):
    scores, _ = evaluate_detector(tree_detector, tree_annotations, descent=tree_detector.default_decoder)
    depth = scores.depth
    sheet = draw_worst(depth, depth.detections)
    for outcome in OUTCOME_COLOURS:  # dog is an ancestor of poodle, the cat is not detected
        assert (sheet[40:] == OUTCOME_COLOURS[outcome]).all(axis=2).any(), outcome
