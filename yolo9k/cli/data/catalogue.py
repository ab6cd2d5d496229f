"""`yolo9k data list` and `download`: the data sets of the catalogue."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yolo9k.cli.console import out, print_plain, speaker, table, track, write_json
from yolo9k.cli.outputs import JsonOption
from yolo9k.errors import ConfigError

if TYPE_CHECKING:
    from yolo9k.config import AnyDataset


def list_datasets(json: JsonOption = "") -> None:
    """The data sets of the catalogue, and whether they are on this machine.

    Example: yolo9k data list
    """
    from yolo9k.config import dataset_names, load_dataset_config
    from yolo9k.datasets.load import data_folder
    from yolo9k.datasets.tools.download import ARCHIVES

    rows = [_row(name, load_dataset_config(name)) for name in dataset_names()]
    if json:
        write_json(json, {"data": str(data_folder()), "datasets": rows})
    console = speaker(json)
    shown = [(row["name"], row["kind"], "yes" if row["here"] else "no", row["root"]) for row in rows]
    console.print(table("Data sets", ["name", "kind", "there", "root"], shown))
    for row in rows:
        if row["name"] in ARCHIVES and not row["here"]:
            print_plain(console, f"to fetch {row['name']}: yolo9k data download {row['name']}")


def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="voc or coco.")],
    root: Annotated[Path | None, typer.Option(help="Where to put it; default: $YOLO9K_DATA, else data.")] = None,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Leave the packed files.")] = False,
) -> None:
    """Fetch a public data set from its official address; a second call goes on where the first one broke off.

    Example: yolo9k data download voc
    """
    from yolo9k.datasets.load import data_folder
    from yolo9k.datasets.tools.download import ARCHIVES
    from yolo9k.datasets.tools.download import download as fetch_dataset

    if name not in ARCHIVES:
        raise ConfigError(f"{name}: cannot be downloaded; allowed are {', '.join(ARCHIVES)}")
    base = root or data_folder()
    for path in fetch_dataset(name, base, keep_archives, track):
        print_plain(out, f"have {path}")
    elsewhere = "" if base == data_folder() else f"YOLO9K_DATA={base} "
    print_plain(out, f"Next: {elsewhere}yolo9k data check {name}")


def _row(name: str, config: "AnyDataset") -> dict[str, Any]:
    """A data set in the list; a joint one is here when all its sources are."""
    from yolo9k.config import DatasetConfig
    from yolo9k.datasets.load import data_folder

    parts = [config] if isinstance(config, DatasetConfig) else [source.dataset for source in config.sources]
    roots = [data_folder() / part.root for part in parts if isinstance(part, DatasetConfig)]
    kind = config.kind if isinstance(config, DatasetConfig) else "joint"
    return {"name": name, "kind": kind, "root": ", ".join(map(str, roots)), "here": all(r.is_dir() for r in roots)}
