"""`yolo9k data`: list, check, fetch and recognise data sets."""

import typer

from yolo9k.cli.data import catalogue, check, crops, describe, shards

app = typer.Typer(no_args_is_help=True, help="List, check and fetch data sets; describe your own, cut out crops.")
make = typer.Typer(no_args_is_help=True, help="Write a config for your own data, crops of their boxes, or tar shards.")
app.add_typer(make, name="make")
make.command("crops")(crops.make_crops)
make.command("shards")(shards.make_shards)
make.command("config")(describe.make_config)
app.command("check")(check.check)
app.command("list")(catalogue.list_datasets)
app.command("download")(catalogue.download)
