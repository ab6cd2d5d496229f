"""`yolo9k data list` and `yolo9k data download`: the data sets of the catalogue."""

from typing import TYPE_CHECKING, Any

from yolo9k.cli import options as opt
from yolo9k.cli.console import out, speaker, table, track, write_json
from yolo9k.cli.outputs import check_outputs
from yolo9k.errors import ConfigError

if TYPE_CHECKING:
    from yolo9k.config import AnyDataset


def list_datasets(json: opt.JsonOption = "", overwrite: opt.OverwriteOption = False) -> None:
    """List the data sets of the catalogue, and whether they are on this machine.

    Example: yolo9k data list
    """
    from yolo9k.config import dataset_names, load_dataset_config
    from yolo9k.datasets.load import data_folder
    from yolo9k.datasets.tools.download import ARCHIVES

    check_outputs(files={"--json": json}, overwrite=overwrite)
    rows = [_row(name, load_dataset_config(name)) for name in dataset_names()]
    if json:
        write_json(json, {"data": str(data_folder()), "datasets": rows})
    console = speaker(json)
    cells = [(row["name"], row["kind"], "yes" if row["here"] else "no", row["root"]) for row in rows]
    console.print(table("Data sets", ["name", "kind", "on disk", "root"], cells))
    for row in rows:
        if row["name"] in ARCHIVES and not row["here"]:
            console.print(f"to download {row['name']}: yolo9k data download {row['name']}")


def download(
    name: opt.DownloadedDatasetArgument, root: opt.DataRootOption = None, keep_archives: opt.KeepArchivesOption = False
) -> None:
    """Download a public data set from its official address; a second call resumes an interrupted download.

    Example: yolo9k data download voc
    """
    from yolo9k.datasets.load import data_folder
    from yolo9k.datasets.tools.download import ARCHIVES
    from yolo9k.datasets.tools.download import download as download_dataset

    if name not in ARCHIVES:
        raise ConfigError(f"{name}: no downloadable data set; allowed are {', '.join(ARCHIVES)}")
    folder = root or data_folder()
    check_outputs(folders={"--root": folder})
    for path in download_dataset(name, folder, keep_archives, track):
        out.print(f"downloaded {path}")
    variable = "" if folder == data_folder() else f"YOLO9K_DATA={folder} "
    out.print(f"next: {variable}yolo9k data check {name}")


def _row(name: str, config: "AnyDataset") -> dict[str, Any]:
    """Return a data set of the list; a joint one is here if all its sources are."""
    from yolo9k.config import DatasetConfig
    from yolo9k.datasets.load import data_folder

    parts = [config] if isinstance(config, DatasetConfig) else [source.dataset for source in config.sources]
    roots = [data_folder() / part.root for part in parts if isinstance(part, DatasetConfig)]
    kind = config.kind if isinstance(config, DatasetConfig) else "joint"
    return {"name": name, "kind": kind, "root": ", ".join(map(str, roots)), "here": all(r.is_dir() for r in roots)}
