"""`yolo9k bench`: measurements a user can repeat."""

import typer

from yolo9k.cli.bench import ablation, backbones, labels, norms, speed

app = typer.Typer(no_args_is_help=True, help="Measure training and detection on this machine.")

app.command("ablation")(ablation.ablation)
app.command("norms")(norms.norms)
app.command("train")(speed.train_speed)
app.command("labels")(labels.label_cost)
app.command("backbones")(backbones.backbone_cost)
