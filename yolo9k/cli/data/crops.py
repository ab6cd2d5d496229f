"""`yolo9k data make crops`: crop the boxes of a data set into class folders."""

import shutil

from yolo9k.cli import options as opt
from yolo9k.cli.console import out, table, track
from yolo9k.cli.outputs import check_outputs
from yolo9k.errors import ConfigError


def make_crops(
    dataset: opt.CroppedDatasetArgument,
    output: opt.CropFolderOption,
    split: opt.CropSplitOption = "train",
    margin: opt.MarginOption = 0.2,
    per_class: opt.PerClassOption = 0,
    min_side: opt.MinSideOption = 8,
    max_covered: opt.MaxCoveredOption = 0.3,
    in_place: opt.InPlaceOption = False,
    max_pixels: opt.MaxPixelsOption = None,
    seed: opt.CropSeedOption = 0,
) -> None:
    """Crop boxes into one folder per class: image-level labels made from box labels.

    Example: yolo9k data make crops cells.yaml --in-place --per-class 300 -o single-cells
    """
    from yolo9k.datasets.autodetect import open_dataset
    from yolo9k.datasets.joint import require_single
    from yolo9k.datasets.load import read_annotations
    from yolo9k.datasets.tools.crops import CropOptions, write_crops

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"-o {output}: already exists; choose a new folder")
    check_outputs(folders={"-o": output})
    annotations = read_annotations(require_single(open_dataset(dataset, track)), split, track=track)
    rules = CropOptions(margin, per_class, min_side, max_covered, in_place, seed)
    existed = output.exists()
    try:
        _, counts = write_crops(annotations, output, rules, track)
    except BaseException:  # half of the crops would look like all of them
        shutil.rmtree(output, ignore_errors=True)
        if existed:
            output.mkdir()
        raise
    out.print(table(str(output), ["label", "images"], sorted(counts.items())))
