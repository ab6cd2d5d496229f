"""`yolo9k data check`: report the contents of a data set and its errors."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from yolo9k.cli import options as opt
from yolo9k.cli.console import out, speaker, table, track, write_json
from yolo9k.cli.interrupts import StoppableWork
from yolo9k.cli.outputs import check_outputs
from yolo9k.errors import DataError

if TYPE_CHECKING:
    from yolo9k.config import AnyDataset
    from yolo9k.datasets.readers.records import Issue
    from yolo9k.datasets.tools.check import LengthStats, Report

MAX_SHOWN = 20  # errors, and warnings, on the screen
DEFAULT_PLOTS = Path("plots")  # of --augmented


def check(
    dataset: opt.CheckedDatasetArgument = "",
    split: opt.CheckedSplitsOption = None,
    max_pixels: opt.MaxPixelsOption = None,
    json: opt.JsonOption = "",
    plots: opt.PlotsOption = None,
    strict: opt.FailOnErrorsOption = False,
    augmented: opt.AugmentedOption = 0,
    config: opt.AugmentedConfigOption = "",
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Check a data set: read all annotations and images, report counts, sizes, errors and warnings.

    Boxes and images with errors are not used; what a warning names may be
    correct. --augmented writes augmented.png to the folder of --plots
    (default: plots).

    Example: yolo9k data check bccd.yaml --plots plots
    Example: yolo9k data check --augmented 16 --config voc.yaml
    """
    folder = plots or (DEFAULT_PLOTS if augmented else None)
    check_outputs(files={"--json": json}, folders={"--plots": folder}, inputs=(dataset, config), overwrite=overwrite)
    if augmented:
        _draw_augmented(dataset, config, augmented, plots or DEFAULT_PLOTS)
        return
    from yolo9k.datasets.joint import require_single
    from yolo9k.datasets.tools.check import check_dataset

    with StoppableWork() as work:
        report = check_dataset(require_single(_open(dataset)), split or (), track, work.track)
        _write_report(report, work, json, plots)
        work.finish("errors of the other images are missing")
    if strict and report.errors:
        first = report.errors[0]
        raise DataError(f"{dataset}: {len(report.errors)} errors; first: {first.location}: {first.message}")


def _write_report(report: "Report", work: StoppableWork, json: str, plots: Path | None) -> None:
    """Write the files that are given, and print the report."""
    from yolo9k.datasets.tools.check_plots import plot_dataset

    if json:
        write_json(json, {**work.to_dict(), **report.to_dict()})
    written = plot_dataset(report, plots) if plots else ()
    console = speaker(json)
    _show_report(report, console, work.titled(f"{report.dataset} ({report.kind}) in {report.root}"))
    for path in written:
        console.print(f"wrote {path}")


def _open(dataset: str, default: "str | AnyDataset" = "") -> "AnyDataset":
    """Return the data set of that name, or `default` without a name."""
    from yolo9k.config import load_dataset_config
    from yolo9k.datasets.autodetect import open_dataset

    return open_dataset(dataset, track) if dataset else load_dataset_config(default)


def _draw_augmented(dataset: str, config_name: str, count: int, folder: Path) -> None:
    """Write `augmented.png`: the first images that training with this config sees."""
    from yolo9k.config import load_config
    from yolo9k.datasets.joint import read_training
    from yolo9k.datasets.tools.preview import augmented_mosaic
    from yolo9k.drawing import save_image
    from yolo9k.resolve import with_aspect

    config = load_config(config_name or None)
    training = read_training(_open(dataset, config.data.dataset), config.data.on_error, track)
    target = folder / "augmented.png"
    save_image(target, augmented_mosaic(training, with_aspect(config, training.box_records), count))
    out.print(f"wrote {target}")


def _show_report(report: "Report", console: Console, title: str) -> None:
    console.print(title)
    columns = ["split", "images", "without boxes", "boxes", "ignored", "small", "medium", "large"]
    rows = [
        (s.name, s.images, s.images_without_boxes, s.boxes, s.ignored, s.small, s.medium, s.large)
        for s in report.splits
    ]
    console.print(table("Splits", columns, rows))
    sizes = [(s.name, *map(_stats, (s.image_width, s.image_height, s.box_width, s.box_height))) for s in report.splits]
    columns = ["split", "image width", "image height", "box width", "box height"]
    console.print(table("Sizes in pixels: min / median / max", columns, sizes))
    _show_classes(report, console)
    _show_issues("errors", report.errors, console)
    _show_issues("warnings (may be correct data)", report.warnings, console)


def _stats(stats: "LengthStats | None") -> str:
    return "-" if stats is None else f"{stats.min:.0f} / {stats.median:.0f} / {stats.max:.0f}"


def _show_classes(report: "Report", console: Console) -> None:
    columns = ["class", *(f"{split.name} {unit}" for split in report.splits for unit in ("images", "boxes"))]
    rows = [
        (name, *(count for s in report.splits for count in (s.classes[i].images, s.classes[i].boxes)))
        for i, name in enumerate(report.labels)
    ]
    in_tree = any(not part.labels.is_flat for part in report.annotations.values())
    shown = [row for row in rows if any(row[1:])] if in_tree else rows  # a tree may have thousands without a box
    console.print(table("Classes", columns, shown))


def _show_issues(title: str, issues: "tuple[Issue, ...]", console: Console) -> None:
    from yolo9k.datasets.readers.records import count_by_kind

    kinds = ", ".join(f"{count} {kind}" for kind, count in count_by_kind(issues).items())
    console.print(f"{len(issues)} {title}" + (f": {kinds}" if kinds else ""))
    for issue in issues[:MAX_SHOWN]:
        console.print(f"  {issue.kind}: {issue.location}: {issue.message}")
    if len(issues) > MAX_SHOWN:
        console.print(f"  … and {len(issues) - MAX_SHOWN} more (--json FILE has all)")
