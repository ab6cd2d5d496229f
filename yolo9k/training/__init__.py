"""Training. The path of one step, and which file answers which question:

- `loop.py`: When do steps, logs, evaluations and saves happen, and what happens after a failure?
- `run.py`: Which images does a step get, and what is saved and restored? (`stages.py`, `schedule.py`: size, lr)
- `step.py`: How do micro-batches become gradients? (`tasks/`: network and losses; `freezing.py`: frozen layers)
- `guard.py`: Does the update take place? Not if a loss, gradient or buffer is NaN or infinite.
- `loss_level.py`: Has the loss exploded, so that the newest weights cannot be trusted?
- `optimizer.py`: Which optimiser, and with which decay and lr factor per layer? (`ema.py`: the averaged weights)

Before the first step: `transfer.py`, `class_rows.py` and `class_names.py` (weights to start from), `dry_run.py`. After
a step: `output/` (files, callbacks); after one that failed: `replay.py`. Training runs in one process on one device:
`train.batch` counts all images of a step.
"""

from yolo9k.training.loop import resume, train

__all__ = ["resume", "train"]
