"""`yolo9k data make crops`: images of single things out of the boxes of a data set."""

from pathlib import Path
from typing import Annotated

import typer

from yolo9k.cli.console import out, table, track
from yolo9k.errors import ConfigError


def make_crops(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A name, a config or a folder, with boxes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write; it must be new or empty.")],
    split: Annotated[str, typer.Option(help="The split whose boxes are cut out.")] = "train",
    margin: Annotated[float, typer.Option(min=0, help="Added on each side, as a share of the box.")] = 0.2,
    per_class: Annotated[int, typer.Option(min=0, help="At most so many of each label, at random; 0 is all.")] = 0,
    min_side: Annotated[float, typer.Option(min=1, help="Pixels that the shorter side must have.")] = 8,
    max_covered: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out boxes of which others cover a larger share.")
    ] = 0.3,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place", help="Keep the image's size, all around the box its median colour: things keep their scale."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of --per-class.")] = 0,
) -> None:
    """Cut the boxes out of images, into a folder for each label: image labels out of box labels.

    Example: yolo9k data make crops cells.yaml --in-place --per-class 300 -o single-cells
    """
    from yolo9k.datasets.autodetect import open_dataset
    from yolo9k.datasets.joint import single
    from yolo9k.datasets.load import read_annotations
    from yolo9k.datasets.tools.crops import CropRules, write_crops

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"-o {output}: is there already; name a new folder")
    annotations = read_annotations(single(open_dataset(dataset, track)), split, track=track)
    rules = CropRules(margin, per_class, min_side, max_covered, in_place, seed)
    _, counts = write_crops(annotations, output, rules, track)
    out.print(table(str(output), ["label", "images"], sorted(counts.items())))
