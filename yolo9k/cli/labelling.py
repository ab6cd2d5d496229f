"""Options that say how boxes are named where labels form a tree."""

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from yolo9k.detection.labelling import Labelling
    from yolo9k.inference import Detector


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


def choose_labelling(
    detector: "Detector", hier_thresh: float | None, leaves_only: bool, under: list[str] | None, tree_mode: TreeMode
) -> "Labelling":
    """What the options mean for a detector. Raises `ConfigError` as `Detector.labelling` does."""
    return detector.labelling(
        hier_thresh=hier_thresh, rule=tree_mode.value, leaves_only=leaves_only, under=listed(under)
    )


def listed(given: list[str] | None) -> list[str]:
    """The names of an option that may be repeated, or hold several, separated by commas."""
    return [name.strip() for entry in given or [] for name in entry.split(",") if name.strip()]
