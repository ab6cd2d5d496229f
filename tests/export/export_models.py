"""The models that the tests of exports share."""

from yolo9k.wordtree import WordTree

FLAT = WordTree.flat(["cat", "dog", "eel"])
IDS = ("animal", "vehicle", "dog", "cat", "car", "terrier", "poodle")
TREE = WordTree(IDS, IDS, (-1, -1, 0, 0, 1, 2, 2))
ANCHORS = "anchors: [[1, 1], [2, 2]]"
