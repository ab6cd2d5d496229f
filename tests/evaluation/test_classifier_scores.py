import json
import math
from dataclasses import replace

import numpy as np
import pytest
from classifier_scenes import FLAT, IN_TREE, OF_FLAT, TREE, FixedClassifier, image_set, in_tree

from yolo9k.errors import ConfigError, DataError
from yolo9k.evaluation.classifier import evaluate_classifier
from yolo9k.metrics.classification import ClassAccuracy, ConfusedPair
from yolo9k.metrics.depth import Level
from yolo9k.wordtree import WordTree

ANIMAL, DEVICE, DOG, CAT, CLOCK, TERRIER, POODLE = range(7)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_flat_scores_by_hand(tmp_path, batch):
    scores = evaluate_classifier(FixedClassifier(OF_FLAT, FLAT), image_set(tmp_path, OF_FLAT), batch=batch)
    assert (scores.images, scores.unreadable, scores.top5, scores.tree) == (4, 0, 1.0, None)
    assert scores.top1 == pytest.approx(2 / 4)
    assert scores.class_top1 == pytest.approx((1 / 3 + 1) / 2)
    assert scores.loss == pytest.approx(-sum(map(math.log, (0.7, 0.2, 0.3, 0.8))) / 4, rel=1e-5)
    assert scores.classes == (ClassAccuracy(0, 3, pytest.approx(1 / 3), 1.0), ClassAccuracy(1, 1, 1.0, 1.0))
    assert scores.pairs == (ConfusedPair(0, 1, 2),)


@pytest.mark.parametrize("batch", [1, 4])
def test_scores_in_a_tree_by_hand(tmp_path, batch):
    # Top-1 leaves: a poodle is predicted as terrier, a terrier as clock; terrier is correct for a dog. The descent
    # ends at terrier with probability 0.9 * 0.9 * 0.9 = 0.73, and at dog if terrier has 0.49.
    scores = evaluate_classifier(FixedClassifier(IN_TREE, TREE), in_tree(tmp_path), batch=batch)
    assert scores.top1 == pytest.approx(4 / 6)
    assert scores.top5 == 1
    assert scores.pairs == (
        ConfusedPair(TERRIER, CLOCK, 1),
        ConfusedPair(POODLE, TERRIER, 1),
    )
    tree = scores.tree
    assert tree.levels == (
        Level(0, ground_truths=6, correct=5, too_coarse=0, wrong_branch=1, not_detected=0),
        Level(1, ground_truths=6, correct=5, too_coarse=0, wrong_branch=1, not_detected=0),
        Level(2, ground_truths=4, correct=1, too_coarse=2, wrong_branch=1, not_detected=0),
    )
    assert tree.exact == pytest.approx(2 / 6)  # one terrier and the clock; the dog is predicted as terrier
    assert tree.ground_truth_depth == pytest.approx((1 + 2 * 4 + 1) / 6)
    assert tree.predicted_depth == pytest.approx((2 + 1 + 1 + 2 + 1 + 1) / 6)
    assert tree.mistakes == {1: 1, 3: 1}
    assert tree.mistake_height == 2
    assert scores.loss == pytest.approx(
        -np.mean(
            [
                math.log(0.9 * 0.9),  # the descendants of dog do not matter
                math.log(0.9 * 0.9 * 0.4),
                math.log(0.9 * 0.9 * 0.6),
                math.log(0.9 * 0.9 * 0.9),
                math.log(0.1 * 0.9 * 0.9),
                math.log(0.9),
            ]
        ),
        rel=1e-5,
    )


def test_the_threshold_of_the_descent(tmp_path):
    images, classifier = in_tree(tmp_path), FixedClassifier(IN_TREE, TREE)
    coarse = evaluate_classifier(classifier, images, hier_thresh=0.95).tree
    deep = evaluate_classifier(classifier, images, hier_thresh=0.1).tree
    assert coarse.predicted_depth == 0
    assert deep.levels[2].correct == 2
    assert (coarse.hier_thresh, deep.hier_thresh) == (0.95, 0.1)
    with pytest.raises(ConfigError, match="hier-thresh: requires a label tree"):
        evaluate_classifier(FixedClassifier(OF_FLAT, FLAT), image_set(tmp_path / "flat", OF_FLAT), hier_thresh=0.1)


def test_labels_are_mapped_by_name_or_by_a_map(tmp_path):
    images = image_set(tmp_path, OF_FLAT)  # cat, dog; the model has them in another order
    other = WordTree.flat(["eel", "dog", "cat"])
    assert evaluate_classifier(FixedClassifier(OF_FLAT, other), images).top1 == pytest.approx(2 / 4)
    reordered = WordTree.flat(["dog", "eel", "cat"])
    swapped = evaluate_classifier(FixedClassifier(OF_FLAT, reordered), images, node_map=[0, 2])  # cats are labelled dog
    assert swapped.top1 == pytest.approx(2 / 4)
    with pytest.raises(ConfigError, match=r"no label for 2 of the data set's: cat, dog; it has a, b; pass a \.map"):
        evaluate_classifier(FixedClassifier(OF_FLAT, WordTree.flat(["a", "b"])), images)
    with pytest.raises(ConfigError, match="map: has 1 nodes, but the data set has 2 labels"):
        evaluate_classifier(FixedClassifier(OF_FLAT, FLAT), images, node_map=[0])


def test_a_long_list_of_unmapped_labels_is_cut(tmp_path):
    images = image_set(tmp_path, {f"n{number:02d}/0.png": {} for number in range(20)})
    with pytest.raises(ConfigError) as caught:
        evaluate_classifier(FixedClassifier({}, FLAT), images)
    assert "no label for 20 of the data set's: n00, n01, n02, n03, n04, n05, … 20 in total; it has" in str(caught.value)


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_unreadable_images_are_excluded(tmp_path, batch):
    names = {**OF_FLAT, "cat/bad.png": {}, "dog/bad.png": {}}
    images, classifier, errors = image_set(tmp_path, names), FixedClassifier(OF_FLAT, FLAT), []
    scores = evaluate_classifier(classifier, images, batch=batch, on_unreadable=errors.append)
    assert (scores.images, scores.unreadable, len(errors)) == (4, 2, 2)
    assert scores.top1 == pytest.approx(2 / 4)
    assert [path.name for path in scores.sources] == ["0.png", "1.png", "2.png", "0.png"]
    with pytest.raises(DataError, match="not a readable image"):
        evaluate_classifier(classifier, images, batch=batch)
    only_bad = image_set(tmp_path / "bad", {"cat/bad.png": {}})
    with pytest.raises(DataError, match=r"none of 1 images could be read; first: .*bad\.png"):
        evaluate_classifier(classifier, only_bad, batch=batch, on_unreadable=errors.append)


def test_the_numbers_go_to_json(tmp_path):
    scores = evaluate_classifier(FixedClassifier(IN_TREE, TREE), in_tree(tmp_path))
    stored = json.loads(json.dumps(scores.to_dict()))
    assert stored["images"] == 6
    assert stored["tree"]["levels"][2]["fractions"]["too_coarse"] == 0.5
    assert stored["tree"]["mistakes"] == {"1": 1, "3": 1}
    assert {row["name"]: row["top1"] for row in stored["classes"]}["terrier"] == pytest.approx(2 / 3)
    assert stored["confused_pairs"][0] == {"ground_truth": "terrier", "predicted": "clock", "count": 1}
    assert "outcomes" not in stored
    many = replace(scores, pairs=scores.pairs * 600)
    assert len(many.to_dict()["confused_pairs"]) == 1000
