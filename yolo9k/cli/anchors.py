"""`yolo9k anchors`: cluster the box sizes of a data set into anchors."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from yolo9k.cli import options as opt
from yolo9k.cli.console import speaker, table, track, warn, write_json
from yolo9k.cli.outputs import check_outputs
from yolo9k.errors import ConfigError

if TYPE_CHECKING:
    from yolo9k.anchors import Anchors

DEFAULT_PLOT = Path("anchors.png")  # with --sweep


def anchors(
    dataset: opt.DatasetOption,
    split: opt.AnchorSplitOption = "train",
    max_pixels: opt.MaxPixelsOption = None,
    k: opt.NumAnchorsOption = 5,
    size: opt.AnchorSizeOption = "416",
    resize_mode: opt.AnchorResizeModeOption = None,
    stride: opt.StrideOption = 32,
    seed: opt.AnchorSeedOption = 0,
    sweep: opt.SweepOption = "",
    plot: opt.AnchorPlotOption = None,
    write: opt.UpdatedConfigOption = None,
    json: opt.JsonOption = "",
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Cluster box sizes into anchors: k-means with the distance 1 - IoU.

    The same seed gives the same anchors. --write leaves everything else in the
    config file unchanged.

    Example: yolo9k anchors --dataset voc -k 5 --sweep 1-15 --plot anchors.png --write my.yaml
    """
    from yolo9k.anchor_plots import save_plot
    from yolo9k.anchors import cluster, suspicions
    from yolo9k.anchors import sweep as cluster_each
    from yolo9k.config import Override, load_config
    from yolo9k.datasets.autodetect import open_dataset
    from yolo9k.datasets.box_sizes import fitted_sizes
    from yolo9k.datasets.joint import read_box_records

    counts = _parse_range(sweep)
    plot = plot or (DEFAULT_PLOT if counts else None)
    check_outputs(files={"--plot": plot, "--json": json}, inputs=(dataset, write), overwrite=overwrite)
    check_outputs(files={"--write": write}, inputs=(dataset,), overwrite=True)  # a config, of which a line changes
    _check_format(plot)
    size_wh = load_config(None, [Override("data.size", size, f"--size {size}")]).data.size
    warnings = _config_warnings(write, size_wh, k) if write else []
    records = read_box_records(open_dataset(dataset, track), split, track=track)
    mode = resize_mode.value if resize_mode else load_config(write).data.resize_mode
    sizes_wh = fitted_sizes(records, size_wh, stride, mode)
    clustered = cluster(sizes_wh, k, seed, track)
    curve = cluster_each(sizes_wh, counts, seed, track)
    grid_wh = size_wh[0] / stride, size_wh[1] / stride

    console = speaker(json)
    _print(console, clustered, curve, len(sizes_wh), size_wh, stride)
    for warning in warnings + suspicions(clustered.wh, grid_wh):
        warn(warning)
    if plot:
        save_plot(plot, sizes_wh, clustered, grid_wh, curve)
        console.print(f"wrote {plot}")
    if write:
        _update_config(write, clustered, console)
    if json:
        write_json(json, _to_dict(clustered, curve, size_wh, stride))


def _parse_range(text: str) -> list[int]:
    """Return the integers of `1-15` or `5`; an empty list for an empty text."""
    parts = [part.strip() for part in text.split("-")] if text else []
    if not all(part.isdecimal() for part in parts) or len(parts) > 2:
        raise ConfigError(f"--sweep {text}: must be FIRST-LAST, e.g. --sweep 1-15")
    if not parts:
        return []
    first, last = int(parts[0]), int(parts[-1])
    if not 1 <= first <= last <= 100:
        raise ConfigError(f"--sweep {text}: FIRST must be at least 1, LAST at least FIRST and at most 100")
    return list(range(first, last + 1))


def _check_format(plot: Path | None) -> None:
    from yolo9k.drawing import FIGURE_FORMATS

    if plot and plot.suffix.lower() not in FIGURE_FORMATS:
        allowed = ", ".join(FIGURE_FORMATS)
        raise ConfigError(f"--plot {plot}: allowed are {allowed}, not {plot.suffix or 'no suffix'!r}")


def _config_warnings(config: Path, size_wh: tuple[int, int], k: int) -> list[str]:
    """Return warnings about writing `k` anchors for `size_wh` to a config. Raises `ConfigError` for a bad config."""
    from yolo9k.config import Override, load_config

    if not config.is_file():
        raise ConfigError(f"--write {config}: no such file; copy one with yolo9k config show voc --raw > {config}")
    own = load_config(config, [Override("model.num_anchors", k, f"--write {config}: -k {k}")]).data.size
    if own == size_wh:
        return []
    return [f"{config} has data.size {own[0]}x{own[1]}, but the anchors are for {size_wh[0]}x{size_wh[1]}"]


def _update_config(config: Path, clustered: "Anchors", console: Console) -> None:
    """Write the anchors to a config; also `num_anchors` if it differs, which `anchors: auto` would use again."""
    from yolo9k.config import load_config
    from yolo9k.config.editing import write_values

    values: dict[str, Any] = {"anchors": clustered.rounded()}
    if load_config(config).model.num_anchors != len(clustered):
        values["num_anchors"] = len(clustered)
    write_values(config, "model", values)
    console.print(f"wrote {' and '.join(f'model.{key}' for key in values)} of {config}")


def _print(
    console: Console,
    clustered: "Anchors",
    curve: Sequence["Anchors"],
    num_boxes: int,
    size_wh: tuple[int, int],
    stride: int,
) -> None:
    console.print(_anchor_table(clustered, size_wh, stride))
    console.print(
        f"{num_boxes} boxes: average IoU {clustered.average_iou:.4f}, {clustered.above_half:.1%} above IoU 0.5"
    )
    console.print(f"anchors: {clustered.rounded()}")
    if curve:
        rows = ((len(each), f"{each.average_iou:.4f}", f"{each.above_half:.4f}") for each in curve)
        console.print(table("Sweep", ["anchors", "average IoU", "fraction above IoU 0.5"], rows))


def _anchor_table(clustered: "Anchors", size_wh: tuple[int, int], stride: int) -> Table:
    title = f"{len(clustered)} anchors for {size_wh[0]}x{size_wh[1]}: width and height"
    units = zip(clustered.wh, clustered.pixels(stride), clustered.relative(size_wh, stride), strict=True)
    rows = (
        (number, f"{c[0]:.4f} {c[1]:.4f}", f"{p[0]:.1f} {p[1]:.1f}", f"{r[0]:.4f} {r[1]:.4f}")
        for number, (c, p, r) in enumerate(units, start=1)
    )
    return table(title, ["", f"grid cells ({stride} px)", "pixels", "relative"], rows)


def _to_dict(clustered: "Anchors", curve: Sequence["Anchors"], size_wh: tuple[int, int], stride: int) -> dict[str, Any]:
    return {
        "size_wh": list(size_wh),
        "stride": stride,
        **_scores(clustered),
        "pixels": clustered.pixels(stride).round(2).tolist(),
        "relative": clustered.relative(size_wh, stride).round(6).tolist(),
        "sweep": [_scores(each) for each in curve],
    }


def _scores(clustered: "Anchors") -> dict[str, Any]:
    return {
        "k": len(clustered),
        "anchors": clustered.rounded(),
        "average_iou": clustered.average_iou,
        "above_half": clustered.above_half,
    }
