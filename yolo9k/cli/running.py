"""Options of the commands that run a trained network."""

from typing import Annotated

import typer

WeightsOption = Annotated[
    str, typer.Option(help="A run folder, a checkpoint, a Darknet weights file or a name of `yolo9k weights list`.")
]
SizeOption = Annotated[str, typer.Option(help="Network size, N or WIDTHxHEIGHT; the model's if left out.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")]
ImagesArgument = Annotated[
    list[str],
    typer.Argument(help="Image files, folders, patterns ('a*.jpg') or file: addresses.", metavar="IMAGE..."),
]
ScoredDatasetOption = Annotated[
    str, typer.Option(help="A catalogue name, a config or a folder; the one it was trained on if left out.")
]
SplitOption = Annotated[str, typer.Option(help="The split to score, e.g. test; val if left out.")]
ScoresJsonOption = Annotated[str, typer.Option(help="Write the scores to this JSON file; - is standard output.")]
