"""`yolo9k data make shards`: pack class folders into tar files."""

from yolo9k.cli import options as opt
from yolo9k.cli.console import out, track, warn
from yolo9k.cli.outputs import check_outputs


def make_shards(
    dataset: opt.PackedFolderArgument,
    output: opt.ShardFolderOption,
    split: opt.PackedSplitOption = "train",
    size_mb: opt.ShardSizeOption = 500,
    max_images: opt.MaxImagesOption = 0,
    resize: opt.ResizeOption = 0,
    max_pixels: opt.MaxPixelsOption = None,
    seed: opt.ShardSeedOption = 0,
) -> None:
    """Pack class folders into tar shards in the webdataset layout: millions of images in a few hundred files.

    If the command was interrupted, run it again to resume.

    Example: yolo9k data make shards ~/images/breeds -o breeds-shards --resize 512
    """
    from yolo9k.datasets.autodetect import open_image_dataset
    from yolo9k.datasets.tools.shards import ShardOptions, can_resume, write_shards

    check_outputs(folders={"-o": output})
    rules = ShardOptions(size_mb, max_images, resize, seed)
    try:
        packed = write_shards(open_image_dataset(dataset), split, output, rules, track)
    except BaseException:
        if can_resume(output, split):
            warn(f"{output} is not finished; run the same command again to resume")
        raise
    if packed.unreadable:
        warn(f"{packed.unreadable} images could not be read; packed unchanged")
    size = sum(path.stat().st_size for path in packed.shards)
    counts = f"{packed.images:,} images of {packed.classes:,} classes in {len(packed.shards):,} tar files"
    out.print(f"{split}: {counts}, {size / 1e6:,.1f} MB")
    out.print(f"wrote {packed.config}")
