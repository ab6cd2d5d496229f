"""`yolo9k config`: list, show and check configs."""

from pathlib import Path

import typer

from yolo9k.cli import options as opt
from yolo9k.cli.console import out, print_document, table
from yolo9k.errors import ConfigError
from yolo9k.io import read_lines, read_text

app = typer.Typer(help="List, show and check configs.", no_args_is_help=True)


@app.command("list")
def list_configs() -> None:
    """List the training configs and data sets of the package.

    Example: yolo9k config list
    """
    from yolo9k.config import config_names, dataset_names
    from yolo9k.config.catalogue import find

    for title, names, is_dataset in (("Configs", config_names(), False), ("Data sets", dataset_names(), True)):
        rows = [(name, _description(find(name, dataset=is_dataset))) for name in names]
        listing = table(title, ["name", "description"], rows)
        listing.columns[1].justify = "left"
        out.print(listing)


def _description(path: Path | None) -> str:
    """Return the first comment of a file."""
    lines = read_lines(path, ConfigError.at) if path else []
    return next((line.lstrip("# ").strip() for line in lines if line.startswith("#")), "")


@app.command("show")
def show_config(
    name: opt.ShownConfigArgument = "", overrides: opt.OverridesOption = None, raw: opt.RawOption = False
) -> None:
    """Show a config with all its values: its own, those of the config it extends, and the defaults.

    Example: yolo9k config show voc --set train.lr=0.0005
    Example: yolo9k config show small --raw > mine.yaml
    """
    from yolo9k.config import dump, load_dataset_config, load_run_config

    path, is_dataset = _locate(name) if name else (None, False)
    if overrides and (raw or is_dataset):
        raise ConfigError("--set: only for training configs, and not with --raw")
    if raw and path:
        text = read_text(path, ConfigError.at)
    elif is_dataset and path:
        text = dump(load_dataset_config(path))
    else:
        text = dump(load_run_config(path, overrides or ()))
    print_document(text)


@app.command("check")
def check_config(name: opt.CheckedConfigArgument) -> None:
    """Check a config: keys, types, ranges, and whether its data set exists in the catalogue or as a file.

    Example: yolo9k config check my.yaml
    """
    from yolo9k.config import load_dataset_config, load_run_config

    path, is_dataset = _locate(name)
    if is_dataset:
        load_dataset_config(path)
    else:
        config = load_run_config(path)
        if config.data.dataset:
            load_dataset_config(config.data.dataset)
    out.print(f"{path}: ok ({'data set' if is_dataset else 'config'})")


def _locate(name: str) -> tuple[Path, bool]:
    """Return the file of a config, and whether it describes a data set (it then has the key `kind` or `sources`)."""
    from yolo9k.config import load_config
    from yolo9k.config.catalogue import find
    from yolo9k.yaml_files import load_yaml

    path = find(name) or find(name, dataset=True)
    if path is None:
        load_config(name)  # raises the error that lists the existing names
        raise AssertionError(name)
    values = load_yaml(path)
    return path, isinstance(values, dict) and bool({"kind", "sources"} & values.keys())
