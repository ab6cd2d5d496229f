"""`yolo9k data`: list, download and check data sets; make configs, crops and tar shards."""

import typer

from yolo9k.cli.data import catalogue, check, crops, describe, shards

app = typer.Typer(no_args_is_help=True, help="List, download and check data sets; make configs, crops and shards.")
make = typer.Typer(no_args_is_help=True, help="Make a data set config, image crops or tar shards from your own data.")
app.add_typer(make, name="make")
make.command("crops")(crops.make_crops)
make.command("shards")(shards.make_shards)
make.command("config")(describe.make_config)
app.command("check")(check.check)
app.command("list")(catalogue.list_datasets)
app.command("download")(catalogue.download)
