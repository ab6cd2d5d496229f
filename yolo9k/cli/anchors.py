"""`yolo9k anchors`: cluster the box sizes of a data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from yolo9k.cli.console import err, speaker, table, track, write_json
from yolo9k.cli.outputs import check_outputs
from yolo9k.errors import ConfigError

if TYPE_CHECKING:
    from yolo9k.anchors import Anchors

DEFAULT_PLOT = Path("anchors.png")  # of a sweep
PLOT_FORMATS = (".png", ".jpg", ".pdf", ".svg")


def anchors(
    dataset: Annotated[
        str, typer.Option(help="A data set: a name of `yolo9k data list`, a data set config, or a folder.")
    ],
    split: Annotated[str, typer.Option(help="The split whose boxes are clustered.")] = "train",
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many anchors.")] = 5,
    size: Annotated[str, typer.Option(help="Images are letterboxed to this: N or WIDTHxHEIGHT.")] = "416",
    stride: Annotated[int, typer.Option(min=1, help="Pixels of one grid cell; 32 for all models here.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same anchors.")] = 0,
    sweep: Annotated[str, typer.Option(help="Also cluster for these numbers of anchors, e.g. 1-15.")] = "",
    plot: Annotated[Path | None, typer.Option(help="Draw boxes, anchors and the sweep into this file.")] = None,
    write: Annotated[Path | None, typer.Option(help="Set model.anchors in this training config.")] = None,
    json: Annotated[str, typer.Option(help="Write the numbers to this JSON file; - is standard output.")] = "",
) -> None:
    """Cluster box sizes into anchors: k-means with the distance 1 - IoU.

    With --sweep the image goes to anchors.png where --plot names no other file.
    --write changes model.anchors, and model.num_anchors where that is another number; all else in the file stays.

    Example: yolo9k anchors --dataset voc -k 5 --sweep 1-15 --plot anchors.png --write my.yaml
    """
    from yolo9k.anchor_plots import save_plot
    from yolo9k.anchors import cluster, suspicions
    from yolo9k.anchors import sweep as cluster_each
    from yolo9k.config import Override, load_config
    from yolo9k.config.editing import write_values
    from yolo9k.datasets.autodetect import open_dataset
    from yolo9k.datasets.box_sizes import letterboxed_sizes
    from yolo9k.datasets.joint import read_box_records

    numbers = _range(sweep)
    image = plot or (DEFAULT_PLOT if numbers else None)
    check_outputs(files={"--plot": image, "--write": write, "--json": json})
    if image:
        _check_format(image)
    size_wh = load_config(None, [Override("data.size", size, f"--size {size}")]).data.size
    warnings = _warnings(write, size_wh, k) if write else []
    records = read_box_records(open_dataset(dataset, track), split, track=track)
    sizes_wh = letterboxed_sizes(records, size_wh, stride)
    found = cluster(sizes_wh, k, seed, track)
    curve = cluster_each(sizes_wh, numbers, seed, track)
    grid_wh = size_wh[0] / stride, size_wh[1] / stride

    say = speaker(json)
    _print(say, found, curve, len(sizes_wh), size_wh, stride)
    for warning in warnings + suspicions(found.wh, grid_wh):
        err.print(f"warning: {warning}", style="yellow", markup=False)
    if image:
        save_plot(image, sizes_wh, found, grid_wh, curve)
        say.print(f"wrote {image}", markup=False)
    if write:
        values = {"anchors": found.rounded(), **_changed_number(write, len(found))}
        write_values(write, "model", values)
        say.print(f"wrote {' and '.join(f'model.{key}' for key in values)} of {write}", markup=False)
    if json:
        write_json(json, _as_json(found, curve, size_wh, stride))


def _range(text: str) -> list[int]:
    """`1-15` or `5` as numbers; nothing as none."""
    parts = [part.strip() for part in text.split("-")] if text else []
    if not all(part.isdigit() for part in parts) or len(parts) > 2:
        raise ConfigError(f"--sweep {text}: write FIRST-LAST, e.g. --sweep 1-15")
    if not parts:
        return []
    first, last = int(parts[0]), int(parts[-1])
    if not 1 <= first <= last <= 100:
        raise ConfigError(f"--sweep {text}: numbers of anchors rise, from 1 to at most 100")
    return list(range(first, last + 1))


def _check_format(plot: Path) -> None:
    if plot.suffix.lower() not in PLOT_FORMATS:
        raise ConfigError(f"--plot {plot}: allowed are {', '.join(PLOT_FORMATS)}, not {plot.suffix or 'no suffix'!r}")


def _warnings(config: Path, size_wh: tuple[int, int], k: int) -> list[str]:
    """What is odd about writing `k` anchors made at `size_wh` into a config, which must be there and sound."""
    from yolo9k.config import Override, load_config

    if not config.is_file():
        raise ConfigError(f"--write {config}: no such file; copy one with yolo9k config show voc --raw > {config}")
    own = load_config(config, [Override("model.num_anchors", k, f"--write {config}: -k {k}")]).data.size
    if own == size_wh:
        return []
    return [f"{config} has data.size {own[0]}x{own[1]}, the anchors are made for {size_wh[0]}x{size_wh[1]}"]


def _changed_number(config: Path, number: int) -> dict[str, int]:
    """`num_anchors` where the config, or what it extends, has another one: `anchors: auto` would bring it back."""
    from yolo9k.config import load_config

    return {} if load_config(config).model.num_anchors == number else {"num_anchors": number}


def _print(
    say: Console,
    found: "Anchors",
    curve: Sequence["Anchors"],
    boxes: int,
    size_wh: tuple[int, int],
    stride: int,
) -> None:
    say.print(_anchor_table(found, size_wh, stride))
    say.print(f"{boxes} boxes: average IoU {found.average_iou:.4f}, {found.above_half:.1%} above IoU .5")
    say.print(f"anchors: {found.rounded()}", markup=False)
    if curve:
        say.print(_curve_table(curve))


def _anchor_table(found: "Anchors", size_wh: tuple[int, int], stride: int) -> Table:
    title = f"{len(found)} anchors at {size_wh[0]}x{size_wh[1]}, width and height"
    units = zip(found.wh, found.pixels(stride), found.relative(size_wh, stride), strict=True)
    rows = (
        (number, f"{c[0]:.4f} {c[1]:.4f}", f"{p[0]:.1f} {p[1]:.1f}", f"{r[0]:.4f} {r[1]:.4f}")
        for number, (c, p, r) in enumerate(units, start=1)
    )
    return table(title, ["", f"cells of {stride} px", "pixels", "relative"], rows)


def _curve_table(curve: Sequence["Anchors"]) -> Table:
    rows = ((len(a), f"{a.average_iou:.4f}", f"{a.above_half:.4f}") for a in curve)
    return table("Number of anchors", ["k", "average IoU", "above IoU .5"], rows)


def _as_json(found: "Anchors", curve: Sequence["Anchors"], size_wh: tuple[int, int], stride: int) -> dict[str, Any]:
    return {
        "size_wh": list(size_wh),
        "stride": stride,
        **_numbers(found),
        "pixels": found.pixels(stride).round(2).tolist(),
        "relative": found.relative(size_wh, stride).round(6).tolist(),
        "sweep": [_numbers(anchors) for anchors in curve],
    }


def _numbers(found: "Anchors") -> dict[str, Any]:
    return {
        "k": len(found),
        "anchors": found.rounded(),
        "average_iou": found.average_iou,
        "above_half": found.above_half,
    }
