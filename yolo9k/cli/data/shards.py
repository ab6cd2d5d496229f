"""`yolo9k data make shards`: images of class folders into tar files."""

from pathlib import Path
from typing import Annotated

import typer

from yolo9k.cli.console import err, out, track
from yolo9k.cli.outputs import check_outputs


def make_shards(
    dataset: Annotated[
        str, typer.Argument(metavar="FOLDER", help="A folder of class folders, or a data set config of kind folder.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the tar files and their config.")],
    split: Annotated[str, typer.Option(help="The split that is packed; call again for others.")] = "train",
    size_mb: Annotated[float, typer.Option(min=1, help="Millions of bytes of a tar file.")] = 500,
    max_images: Annotated[int, typer.Option(min=0, help="So many images, chosen at random; 0 is all.")] = 0,
    resize: Annotated[
        int, typer.Option(min=0, metavar="PX", help="Make the shorter side of larger images so long; 0 copies.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the order in the tar files.")] = 0,
) -> None:
    """Pack class folders into tar files of webdataset's layout: millions of images as some hundred files.

    A call that broke off goes on where it was when it is given again.

    Example: yolo9k data make shards ~/images/breeds -o breeds-shards --resize 512
    """
    from yolo9k.datasets.autodetect import open_images
    from yolo9k.datasets.tools.shards import PackRules, write_shards

    check_outputs(folders={"-o": output})
    rules = PackRules(size_mb, max_images, resize, seed)
    packed = write_shards(open_images(dataset), split, output, rules, track)
    if packed.unreadable:
        err.print(f"warning: {packed.unreadable} images could not be read and were packed as they are", style="yellow")
    size = sum(path.stat().st_size for path in packed.shards)
    say = f"{packed.images:,} images of {packed.classes:,} classes in {len(packed.shards):,} tar files, "
    out.print(f"{split}: {say}{size / 1e6:,.1f} MB", markup=False)
    out.print(f"wrote {packed.config}", markup=False)
