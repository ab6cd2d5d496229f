"""The `yolo9k` command: what a person types, parsed; one line for an error, and its exit code."""

import sys
from typing import Annotated

import typer

from yolo9k import __version__
from yolo9k.cli import anchors, bench, config, data, demo, detect, doctor, evaluate, train
from yolo9k.errors import Yolo9kError

app = typer.Typer(
    name="yolo9k",
    help="Train, evaluate and run YOLOv2 and YOLO9000 detectors.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("detect")(detect.detect)
app.command("anchors")(anchors.anchors)
app.add_typer(data.app, name="data")
app.add_typer(config.app, name="config")
app.add_typer(bench.app, name="bench")
app.command("doctor")(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"yolo9k {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train, evaluate and run YOLOv2 and YOLO9000 detectors."""


def main() -> None:
    """Run the command; an error that a user can mend is one line and its documented exit code."""
    try:
        app()
    except Yolo9kError as error:
        _report(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _report("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the output has left; there is nobody to tell
        sys.exit(0)


def _report(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201  # the one place of error lines
