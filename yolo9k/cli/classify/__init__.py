"""`yolo9k classify`: train, evaluate and run image classifiers."""

import typer

from yolo9k.cli.classify import evaluate, predict, train

app = typer.Typer(no_args_is_help=True, help="Train, evaluate and run image classifiers.")

app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("predict")(predict.predict)
