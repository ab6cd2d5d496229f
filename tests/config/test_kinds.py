"""The table of data set kinds: everything that depends on the kind covers it."""

from typing import get_args

from yolo9k.cli.options import KindOption
from yolo9k.config.datasets import DatasetConfig
from yolo9k.config.kinds import BOX_KINDS, IMAGE_KINDS, KINDS, KindName
from yolo9k.datasets.autodetect import BOX_FINDERS
from yolo9k.datasets.load import BOX_READERS, IMAGE_READERS


def test_the_table_has_every_kind():
    assert tuple(KINDS) == get_args(KindName) == (*BOX_KINDS, *IMAGE_KINDS)


def test_every_kind_has_a_reader():
    assert tuple(BOX_READERS) == BOX_KINDS
    assert tuple(IMAGE_READERS) == IMAGE_KINDS


def test_the_help_lists_every_kind_with_boxes():
    assert all(kind in get_args(KindOption)[1].help for kind in BOX_KINDS)


def test_every_kind_with_boxes_has_a_finder():
    assert tuple(BOX_FINDERS) == BOX_KINDS


def test_a_config_knows_whether_it_has_boxes():
    made = {kind: DatasetConfig(kind=kind, root=".", splits={"train": ()}) for kind in KINDS}
    assert tuple(kind for kind, config in made.items() if config.has_boxes) == BOX_KINDS
