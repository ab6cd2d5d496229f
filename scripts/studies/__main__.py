"""`python -m studies ablation|norms`, what `scripts/ablation` and `scripts/norms` run."""

import typer

from studies.ablation_command import ablation
from studies.norms_command import norms
from yolo9k.cli import run

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Studies of many trainings each.")
app.command("ablation")(ablation)
app.command("norms")(norms)

if __name__ == "__main__":
    run(app, "scripts")
