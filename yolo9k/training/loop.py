"""The training loop: steps, logs, evaluates, saves; each on its own period."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from yolo9k import checkpoint
from yolo9k.checkpoint import BEST, LAST
from yolo9k.config import Override, RunConfig, with_overrides
from yolo9k.config.loading import refuse_other
from yolo9k.datasets.loader.batches import make_batch
from yolo9k.errors import ConfigError, DataError, DivergedError, MachineError, Stopped, WeightsError
from yolo9k.hardware import explain_out_of_memory
from yolo9k.pretrained import DarknetFiles, open_weights
from yolo9k.progress import Track, silent
from yolo9k.samples import Batch
from yolo9k.training.output.callbacks import Callback
from yolo9k.training.output.plots import plot_run
from yolo9k.training.output.step_log import StepLog
from yolo9k.training.run import Run, open_run
from yolo9k.training.stop import StopSignal

STAGE = "stage{}.pt"  # the weights at the end of a stage that is not the last
SAVE_EVERY_SECONDS = 600  # of a run whose evaluations are further apart than that
NAMED_IMAGES = 8  # of those a message is about


def train(
    config: RunConfig,
    folder: Path,
    *,
    weights: str | Path | None = None,
    files: DarknetFiles | None = None,
    callback: Callback | None = None,
    track: Track = silent,
) -> Path:
    """Train as the config says and write the run into `folder`; gives `folder`.

    `weights`: start from a run, a checkpoint, a Darknet file (with its `files`) or a model of the catalogue; layers
    that fit are taken. Raises the errors of data sets and configs, `WeightsError`, `DivergedError`,
    `MachineError`, and `Stopped` after a signal (all is saved).
    """
    run = prepare(config, folder, weights=weights, files=files, track=track)
    return Loop(run, callback or Callback(), track).go()


def prepare(
    config: RunConfig,
    folder: Path,
    *,
    weights: str | Path | None = None,
    files: DarknetFiles | None = None,
    track: Track = silent,
) -> Run:
    """A run that is ready for its first step; nothing is written yet. Arguments and errors are those of `train`."""
    stored = None if weights is None else open_weights(weights, files, track)
    run = open_run(config, folder, track)
    if stored is not None and weights is not None:
        run.start_from(stored, weights)
    elif config.model.pretrained:
        run.start_pretrained(track)
    return run


def resume(
    folder: Path,
    *,
    overrides: Sequence[str | Override] = (),
    kind: type[RunConfig] | None = None,
    callback: Callback | None = None,
    track: Track = silent,
) -> Path:
    """Go on with the run in `folder` from its last checkpoint, exactly as if it had not stopped.

    `overrides`, as in `load_config`, change what may change (a new device, more epochs). `kind`: what it must be.
    Of a run that has made all its steps the callback is told so. Raises `WeightsError` where there is nothing to go on
    from, `ConfigError` where fewer steps are asked for than are made, and for a run of another kind.
    """
    path = folder / "checkpoints" / LAST
    stored = checkpoint.load(path)
    if stored.training is None:
        raise WeightsError(f"{path}: a finished detector, not a run that can go on")
    if kind is not None:
        refuse_other(kind, stored.config.task, str(folder))
    run = open_run(with_overrides(stored.config, overrides), folder, track)
    run.restore(stored, path)
    callback = callback or Callback()
    if run.next_step > run.total_steps:
        raise ConfigError(f"{folder}: has made {run.next_step} steps, more than the {run.total_steps} asked for")
    if run.next_step == run.total_steps:
        made = f"it has made all its {run.total_steps} steps"
        callback.on_note(f"{folder} is finished: {made}; ask for more (--steps, --epochs) to go on")
        return folder
    return Loop(run, callback, track).go()


class Loop:
    """Takes a run from its next step to its last."""

    def __init__(self, run: Run, callback: Callback, track: Track) -> None:
        self.run, self.callback, self.track = run, callback, track
        self.log = StepLog(run.config.train.batch)
        self.first_step = run.next_step
        self.unreadable: dict[str, None] = {}  # names of training images, in the order they were met
        self.unscored: dict[str, None] = {}  # what is wrong with validation images, likewise

    def go(self) -> Path:
        """Make all steps that are left. What was learnt before a failure is saved, the failed step is not."""
        run = self.run
        run.files.begin(run.config, run.next_step)
        self.callback.on_start(run.plan())
        remedy = "raise train.accumulate, or lower train.batch, the size of images or data.workers"
        try:
            with StopSignal() as stop, explain_out_of_memory(run.device, remedy):
                self._steps(stop)
        except DataError as error:
            self._save_before_failure()
            raise DataError(f"{error}; yolo9k data check finds all that cannot be used") from error
        except MachineError:
            self._save_before_failure()
            raise
        finally:
            self._note_unreadable()
            run.files.close()
        self.callback.on_end(run.files.folder, run.best if run.best >= 0 else None)
        return run.files.folder

    def _steps(self, stop: StopSignal) -> None:
        run, config = self.run, self.run.config.train
        saved_at = time.monotonic()
        for step, parts in run.batches():
            rate = run.learning_rate(step)
            self.log.add(run.stepper(step, parts, rate))
            run.next_step = step + 1
            self.unreadable |= dict.fromkeys(name for part in parts for name in part.unreadable)
            self.callback.on_step(step, parts[0].size_wh)
            ends_stage = any(run.next_step == stage.last for stage in run.stages)
            logs = ends_stage or run.next_step % config.log_every == 0
            evaluates = ends_stage or self._is_time_to_evaluate()
            stopping = stop.received  # asked once: a signal that comes later waits for the next step
            saves = evaluates or bool(stopping) or time.monotonic() - saved_at > SAVE_EVERY_SECONDS
            if logs or saves or run.device.type == "cpu":  # elsewhere the question waits for the device
                self._check_finite()
            if run.ema:
                run.ema.update(run.network)
            if logs:
                self._report(self.log.entry(run.next_step, rate, parts[0].size_wh, run.steps_per_epoch))
            if evaluates:
                self._evaluate()
                self.log.restart_clock()
            if ends_stage and run.next_step < run.total_steps:
                run.save(STAGE.format(run.stage(step).number + 1))
            if saves:
                run.save(LAST)
                saved_at = time.monotonic()
            if stopping:
                raise self._stopped(stopping)
            if evaluates and self._has_lost_patience():
                break
        plot_run(run.files.folder)

    def _stopped(self, signal_number: int) -> Stopped:
        command = "yolo9k classify train" if self.run.config.task == "classify" else "yolo9k train"
        message = f"stopped after step {self.run.next_step}; go on with: {command} --resume {self.run.files.folder}"
        return Stopped(message, exit_code=128 + signal_number)

    # --- failures

    def _check_finite(self) -> None:
        """Ask the device whether a step failed; the weights are still those from before it."""
        run, guard = self.run, self.run.stepper.guard
        if not bool(guard.failed):
            return
        step = run.next_step = int(guard.first_bad_step)  # nothing from it on reached the weights
        batch = make_batch(run.task.images_in(run.stage(step)), run.sampler(step, step + 1).requests(step))
        dumped = self._dump(step, batch)
        run.save(LAST)
        raise DivergedError(
            f"step {step}: the loss or its gradient is not finite; images {_listed(batch.names)}; {dumped}"
            f"the weights before it are in {run.files.checkpoints / LAST}; check the labels (yolo9k data check), "
            f"then go on with --resume, or begin anew, with a lower train.lr or with train.clip_grad"
        )

    def _dump(self, step: int, batch: Batch) -> str:
        """Write the batch for whoever wants to look; the report of the failure matters more than this file."""
        path = self.run.files.folder / f"diverged-step{step}.pt"
        try:
            torch.save({"step": step, "batch": vars(batch)}, path)
        except (OSError, RuntimeError):
            return ""
        return f"the batch is in {path}, "

    def _note_unreadable(self) -> None:
        """Say which images could not be read under `data.on_error: skip`."""
        if self.unreadable:
            self.callback.on_note(
                f"warning: {len(self.unreadable)} training images could not be read, others took their place: "
                f"{_listed(tuple(self.unreadable))}; yolo9k data check says what is wrong"
            )
        if self.unscored:
            self.callback.on_note(
                f"warning: {len(self.unscored)} validation images could not be read, nothing was found in them; "
                f"the first: {next(iter(self.unscored))}"
            )

    def _save_before_failure(self) -> None:
        """Save the steps before a failure that is not theirs, as far as that can be."""
        self.run.stepper.guard.undo()
        if self.run.next_step > self.first_step:
            with suppress(MachineError):
                self._check_finite()
                self.run.save(LAST)

    # --- what happens now and then

    def _report(self, entry: dict[str, float]) -> None:
        if self.run.config.data.on_error == "skip":
            entry["unreadable_images"] = len(self.unreadable)
        self.run.files.metrics(entry)
        self.callback.on_log(entry)

    def _is_time_to_evaluate(self) -> bool:
        epochs = self.run.config.train.eval_every
        return bool(epochs) and self.run.next_step % max(1, round(epochs * self.run.steps_per_epoch)) == 0

    def _evaluate(self) -> None:
        """Score the validation split, where there is one, and keep the best weights (without: the newest)."""
        run = self.run
        if not run.task.has_val:
            run.save(BEST)
            return
        on_bad = self._take_bad if run.config.data.on_error == "skip" else None
        scores = run.task.score(run.eval_model(), on_bad, self.track)
        epoch = round(run.next_step / run.steps_per_epoch, 2)
        run.files.result({"step": run.next_step, "epoch": epoch, **scores.row})
        run.files.metrics({"step": run.next_step, **{f"val/{name}": value for name, value in scores.row.items()}})
        is_best = scores.value > run.best
        if is_best:
            run.best, run.best_step = scores.value, run.next_step
            run.save(BEST)
        self.callback.on_evaluation(scores, best=is_best)

    def _take_bad(self, error: DataError) -> None:
        self.unscored[str(error)] = None

    def _has_lost_patience(self) -> bool:
        patience = self.run.config.train.patience
        return bool(patience) and self.run.next_step - self.run.best_step >= patience * self.run.steps_per_epoch


def _listed(names: Sequence[str]) -> str:
    """The first names of images, without their folders."""
    shown = [Path(name).name for name in names[:NAMED_IMAGES]]
    return ", ".join(shown + ["…"] * (len(names) > NAMED_IMAGES))
