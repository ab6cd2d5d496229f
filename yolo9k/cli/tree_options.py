"""Options that say how boxes and images are named: in a label tree, and by a data set with labels of its own."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yolo9k.errors import ConfigError, DataError

if TYPE_CHECKING:
    from yolo9k.detection.class_decoder import ClassDecoder
    from yolo9k.inference import Detector
    from yolo9k.wordtree import WordTree


class TreeMode(str, Enum):
    """Whose rule a descent follows."""

    paper = "paper"
    darknet = "darknet"


HierThreshOption = Annotated[
    float | None,
    typer.Option(
        "--hier-thresh", min=0, max=1,
        help="In a tree: go down to more special labels while their probability is above this; .5 if left out.",
    ),
]  # fmt: skip
LeavesOnlyOption = Annotated[
    bool, typer.Option("--leaves-only", help="In a tree: the likeliest label without any below it.")
]
UnderOption = Annotated[
    list[str] | None,
    typer.Option("--under", help="In a tree: only this label and those below it, e.g. animal; may be repeated."),
]
TreeModeOption = Annotated[
    TreeMode,
    typer.Option(
        "--tree-mode",
        help="paper: confidence is objectness x probability of the label; darknet: as Darknet's detector, which stops "
        "higher in the tree and shows the objectness.",
    ),
]

MapOption = Annotated[
    Path | None,
    typer.Option("--map", help="Darknet's .map: the model's label of each label of the data set (its line)."),
]


def nodes_of(path: Path, nodes: int, labels: "WordTree") -> tuple[int, ...]:
    """The model's node, of `nodes`, of each label of a data set, from a `.map`.

    Raises `ConfigError` where the labels are a tree, `DataError` for a map that does not fit.
    """
    from yolo9k.wordtree.files import read_map

    if not labels.is_flat:
        raise ConfigError("--map: the labels of the data set are a tree already; its config names the map: labels.map")
    mapped = read_map(path, nodes)
    if len(mapped) != len(labels):
        raise DataError(f"{path}: {len(mapped)} lines for the {len(labels)} labels of the data set")
    return mapped


def choose_class_decoder(
    detector: "Detector", hier_thresh: float | None, leaves_only: bool, under: list[str] | None, tree_mode: TreeMode
) -> "ClassDecoder":
    """What the options mean for a detector. Raises `ConfigError` as `Detector.class_decoder` does."""
    return detector.class_decoder(
        hier_thresh=hier_thresh, rule=tree_mode.value, leaves_only=leaves_only, under=listed(under)
    )


def listed(given: list[str] | None) -> list[str]:
    """The names of an option that may be repeated, or hold several, separated by commas."""
    return [name.strip() for entry in given or [] for name in entry.split(",") if name.strip()]
