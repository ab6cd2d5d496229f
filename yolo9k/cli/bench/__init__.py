"""`yolo9k bench`: measure the speed and memory of training and detection."""

import typer

from yolo9k.cli.bench import backbone_cost, detection_speed, label_cost, training_speed

app = typer.Typer(no_args_is_help=True, help="Measure training and detection on this machine.")

app.command("train")(training_speed.train_speed)
app.command("detect")(detection_speed.detection_speed)
app.command("labels")(label_cost.label_cost)
app.command("backbones")(backbone_cost.backbone_cost)
