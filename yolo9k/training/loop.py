"""The training loop (`train`, `resume`): runs the steps; logs, evaluates and saves, each at its own interval."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from torch import Tensor

from yolo9k import processes
from yolo9k.checkpoint import BEST, LAST
from yolo9k.config import Override, RunConfig, with_overrides
from yolo9k.config.loading import refuse_other
from yolo9k.config.schema import seconds
from yolo9k.datasets.loader.batches import make_batch
from yolo9k.datasets.loader.sampler import StepSampler
from yolo9k.errors import ConfigError, DataError, DivergedError, MachineError, Stopped, WeightsError
from yolo9k.hardware import explain_out_of_memory
from yolo9k.pretrained import DarknetFiles
from yolo9k.progress import Item, Track, silent
from yolo9k.samples import Batch
from yolo9k.signals import StopSignal
from yolo9k.training.output.callbacks import Callback
from yolo9k.training.output.checkpoints import EARLIER, load_resumable
from yolo9k.training.output.plots import plot_run
from yolo9k.training.output.run_folder import locked, run_folder_of
from yolo9k.training.output.step_log import total_loss
from yolo9k.training.replay import save_step
from yolo9k.training.run import Run, build_run, prepare_run

STAGE = "stage{}.pt"  # weights at the end of a stage that is not the last; stages count from 1
MAX_LISTED_IMAGES = 8  # per message


def train(
    config: RunConfig,
    folder: Path,
    *,
    weights: str | Path | None = None,
    files: DarknetFiles | None = None,
    callback: Callback | None = None,
    track: Track = silent,
) -> Path:
    """Train as the config says, write the run to `folder`, and return `folder`.

    `weights`: start from a run, a checkpoint, a Darknet file (with its `files`) or a catalogue name; the layers that
    fit are loaded. Raises the errors of data sets and configs, `WeightsError`, `DivergedError`, `MachineError`, and
    `Stopped` after a signal (everything is saved). With several processes (`processes.joined`), all of them call this
    with the same arguments; the main one writes, and alone uses `callback` and `track`.
    """
    callback, track = _of_main(callback, track)
    with _locked_by_main(folder):
        run = prepare_run(config, folder, weights=weights, files=files, track=track)
        return Loop(run, callback, track).run_all()


def resume(
    path: Path,
    *,
    overrides: Sequence[str | Override] = (),
    kind: type[RunConfig] | None = None,
    callback: Callback | None = None,
    track: Track = silent,
) -> Path:
    """Resume a run from its last checkpoint, exactly as if it had not stopped; return its folder.

    `path`: the run folder, or one of the checkpoints in it that can be resumed: later steps are then repeated.
    `overrides`: config changes, as in `load_config` (another device, more epochs). `kind`: the required kind of run.
    The callback gets a note for a finished run, and if another checkpoint is taken in place of a damaged one. Raises
    `WeightsError` if there is nothing to resume, and `ConfigError` if fewer steps are requested than were done, for a
    run of another kind, and if another process trains it.
    """
    callback, track = _of_main(callback, track)
    given = path
    folder = processes.from_main(lambda: run_folder_of(given))
    with _locked_by_main(folder):
        path, stored, note = processes.from_main(lambda: load_resumable(given))
        if note:
            callback.on_note(note)
        if stored.training is None:
            raise WeightsError(
                f"{path}: has only weights and cannot be resumed; start a new run from it: --weights {path}"
            )
        if kind is not None:
            refuse_other(kind, stored.config.task, str(folder))
        config = with_overrides(stored.config, overrides)
        run = processes.together(lambda: build_run(config, folder, track))
        run.restore(stored, path)
        if run.next_step > run.total_steps:
            raise ConfigError(f"{folder}: {run.next_step} steps are done, more than the {run.total_steps} requested")
        if run.next_step == run.total_steps and not run.evaluation_pending:
            done = f"finished, all {run.total_steps} steps are done"
            callback.on_note(f"{folder}: {done}; for more, use --steps or --epochs")
            return folder
        return Loop(run, callback, track).run_all()


def _of_main(callback: Callback | None, track: Track) -> tuple[Callback, Track]:
    """Return what shows the run: nothing in processes that are not the main one."""
    return (callback or Callback(), track) if processes.is_main() else (Callback(), silent)


@contextmanager
def _locked_by_main(folder: Path) -> Iterator[None]:
    """Hold the lock of the run folder in the main process. Raises the errors of `locked` in all processes."""
    with ExitStack() as stack:
        processes.from_main(lambda: stack.enter_context(locked(folder)))
        yield


class _EvaluationStopped(processes.Interruption):
    """A signal arrived during an evaluation."""


class Loop:
    """Takes a run from its next step to its last."""

    def __init__(self, run: Run, callback: Callback, track: Track) -> None:
        self.run, self.callback, self.track = run, callback, track
        self.first_step = run.next_step
        self.loss = math.nan  # mean of the newest steps
        self.losses_after_save: Mapping[str, Tensor] = {}  # of the first step after the last checkpoint
        self.saved_at = time.monotonic()
        self.is_high_loss_noted = False
        self.is_device_usable = True  # a GPU waits for ever in an exchange with a process that has ended
        self.stop = StopSignal()
        self.unreadable: dict[str, None] = {}  # names of unreadable training images, in the order of their first use
        self.resized: dict[str, None] = {}  # names of training images of another size than annotated, likewise
        self.unscored: dict[str, None] = {}  # errors of unreadable validation images, likewise

    def run_all(self) -> Path:
        """Run the remaining steps and return the run folder. After a failure, the steps before it are saved."""
        run = self.run
        notes = processes.together(self._open_folder)
        self.callback.on_start(run.info())
        for note in notes:
            self.callback.on_note(note)
        run.log.restart_clock()
        with self.stop:  # also while a failed run is saved
            self._run_and_save()
        self.callback.on_end(run.folder.path, run.best if run.best >= 0 else None)
        return run.folder.path

    def _run_and_save(self) -> None:
        run, stop = self.run, self.stop
        hint = "raise train.accumulate, or lower train.batch, the image size or data.workers"
        try:
            with explain_out_of_memory(run.device, hint), closing(run.remaining_steps()) as steps:
                self._run_steps(steps)
                run.checkpoints.wait()
        except DataError as error:
            self._save_completed_steps()
            complete = DataError(f"{error}; yolo9k data check lists all unusable images and labels")
            complete.is_shared = error.is_shared
            raise complete from error
        except MachineError as error:
            is_lost = isinstance(error, processes.LostProcessError)
            self.is_device_usable = not (is_lost and run.device.type == "cuda")
            self._save_completed_steps()
            if stop.received and not is_lost:  # the terminal that sent SIGHUP is gone, and cannot be written
                raise self._stopped(stop.received) from error
            raise
        finally:
            self._report_images()
            self._report_skipped_steps()
            with suppress(MachineError):  # waited for above; here another error ends the run
                run.checkpoints.close()
            run.folder.close()

    def _open_folder(self) -> list[str]:
        run = self.run
        notes = run.folder.open(run.config, run.next_step, evaluation_pending=run.evaluation_pending)
        if run.resumed_from:
            run.checkpoints.continue_from(run.resumed_from, run.next_step)
        return notes

    def _run_steps(self, remaining: Iterator[tuple[int, list[Batch]]]) -> None:
        run, log_every = self.run, self.run.config.train.log_every
        if run.evaluation_pending:
            self._evaluate()
            if stopping := self._signal():
                raise self._stopped(stopping)
        while (loaded := processes.together(lambda: next(remaining, None))) is not None:
            step, micro_batches = loaded
            self._note_images(micro_batches)
            stage, size_wh = run.stage(step), micro_batches[0].size_wh
            lr = stage.learning_rate(step, run.steps_per_epoch)
            losses = run.stepper(step, micro_batches, lr)
            run.log.add(losses)
            self.losses_after_save = self.losses_after_save or losses
            run.next_step = step + 1
            run.evaluation_pending = False
            self.callback.on_step(step, size_wh)
            ends_stage = run.next_step == stage.stop
            logs = ends_stage or run.next_step % log_every == 0
            evaluates = ends_stage or self._is_evaluation_due()
            checks = logs or evaluates or run.device.type == "cpu"  # not at every step: on a GPU this waits for it
            if checks:
                self._check_finite()
            if run.ema:
                run.ema.update(run.network)
            if logs:
                self._log(run.log.entry(run.next_step, lr, size_wh, run.steps_per_epoch))
            if ends_stage and run.next_step < run.total_steps:
                run.save(STAGE.format(stage.index + 1))
            run.evaluation_pending = evaluates
            # Exchanged now that the step is complete here: if another process has ended, this one saves the step.
            stopping, is_due = processes.maximum([self.stop.received, self._is_checkpoint_due()])
            saves = evaluates or bool(stopping) or bool(is_due)
            if saves and not checks:
                self._check_finite()
            if saves:
                self._save_last()
            if evaluates:
                self._evaluate()
                stopping = self._signal()
            if stopping:
                raise self._stopped(stopping)
            if evaluates and self._is_out_of_patience():
                break
        if processes.is_main():
            plot_run(run.folder.path)

    def _note_images(self, micro_batches: Sequence[Batch]) -> None:
        """Take note of the images that were unreadable or resized, in all processes."""
        unreadable = [name for batch in micro_batches for name in batch.unreadable]
        resized = [name for batch in micro_batches for name in batch.resized]
        if processes.maximum([bool(unreadable or resized)])[0]:
            for their_unreadable, their_resized in processes.gather((unreadable, resized)):
                self.unreadable |= dict.fromkeys(their_unreadable)
                self.resized |= dict.fromkeys(their_resized)

    def _signal(self) -> int:
        """Return the stop signal that a process has received; 0: none."""
        return processes.maximum([self.stop.received])[0]

    def _stopped(self, signal_number: int) -> Stopped:
        resuming = f"resume with: {self._command()} --resume {self.run.folder.path}"
        return Stopped(f"stopped after step {self.run.next_step}; {resuming}", exit_code=128 + signal_number)

    def _command(self) -> str:
        return "yolo9k classify train" if self.run.config.task == "classify" else "yolo9k train"

    # --- failures

    def _check_finite(self) -> None:
        """Raise `DivergedError` if a step failed since the last check, and save the weights from before it."""
        run, guard = self.run, self.run.stepper.guard
        if not bool(guard.failed):
            return
        steps_done = run.next_step
        step = run.next_step = int(guard.first_bad_step)  # neither this step nor later ones changed the weights
        run.log.drop(steps_done - step)
        names, dumped = self._suspects_and_dump(step) if processes.is_main() else ([], "")
        self._save_last()
        run.checkpoints.wait()
        healthy = self._healthy_checkpoint()
        resuming = "" if healthy is None else f"resume with --resume {healthy}, or "
        skipping = "" if run.config.train.on_nonfinite == "skip" else " or train.on_nonfinite=skip"
        raise DivergedError(
            f"step {step}: the loss or its gradient is not finite; images {_short_names(names)}; {dumped}"
            f"the weights before it are in {run.folder.checkpoints / LAST}; check the labels (yolo9k data check), then "
            f"{resuming}start again, with a lower train.lr, with train.clip_grad{skipping}"
        )

    def _suspects_and_dump(self, step: int) -> tuple[list[str], str]:
        """Dump the batch; return the names of images that may be the cause, and the words that say where it is."""
        sampler = self.run.sampler(step, step + 1)
        batch = make_batch(self.run.task.dataset_in(self.run.stage(step)), sampler.requests(step))
        return [batch.names[position] for position in self._suspects(sampler, step)], self._dump(step, batch)

    def _suspects(self, sampler: StepSampler, step: int) -> list[int]:
        """Return the positions in the batch of the images of the processes whose loss was not finite; else all."""
        bad = self.run.stepper.guard.bad_processes.nonzero().flatten().tolist() or range(processes.count())
        shares = (requests for part in bad for requests in sampler.micro_batches(step, part))
        return sorted(request.position for requests in shares for request in requests)

    def _dump(self, step: int, batch: Batch) -> str:
        """Save what repeats the step and return the words that say how; empty if it cannot be saved."""
        path = self.run.folder.path / f"diverged-step{step}.pt"
        try:
            save_step(self.run, step, batch, path)
        except MachineError:
            return ""
        return f"{self._command()} --replay {path} shows the layers, losses and images that are not; "

    def _report_skipped_steps(self) -> None:
        """Pass on how many steps were skipped, if `train.on_nonfinite` is `skip`."""
        if self.is_device_usable and (count := int(self.run.stepper.guard.skipped)):
            self.callback.on_note(
                f"warning: {count:,} steps were skipped because their loss or gradient was not finite"
            )

    def _report_images(self) -> None:
        """Pass on which images were resized since annotation, and which could not be read (`data.on_error: skip`)."""
        if self.resized:
            self.callback.on_note(
                f"warning: {len(self.resized)} training images have another size than annotated; their boxes were "
                f"scaled or turned to the real image: {_short_names(tuple(self.resized))}"
            )
        if self.unreadable:
            self.callback.on_note(
                f"warning: {len(self.unreadable)} training images could not be read and were replaced by others: "
                f"{_short_names(tuple(self.unreadable))}; yolo9k data check says why"
            )
        if self.unscored:
            self.callback.on_note(
                f"warning: {len(self.unscored)} validation images could not be read and have no predictions; "
                f"first: {next(iter(self.unscored))}"
            )

    def _save_completed_steps(self) -> None:
        """Save the steps before a failure, if that is possible."""
        if not self.is_device_usable:
            return
        self.run.stepper.guard.undo()
        if self.run.next_step > self.first_step:
            with suppress(MachineError):
                self._check_finite()
                self._save_last()
                self.run.checkpoints.wait()

    # --- checkpoints

    def _is_checkpoint_due(self) -> bool:
        every = self.run.config.train.checkpoint_every
        if isinstance(every, int):
            return self.run.next_step % every == 0
        return time.monotonic() - self.saved_at > seconds(every)

    def _save_last(self) -> None:
        """Save what resuming needs. A checkpoint from before the loss rose far above its level stays, and is noted."""
        run = self.run
        run.healthy_step = self._newest_healthy_step()
        recent = run.log.recent_loss()
        self.loss = self.loss if math.isnan(recent) else recent
        if run.loss_level.is_high(self.loss) and not self.is_high_loss_noted:
            self.is_high_loss_noted = True
            rise = f"the loss rose from about {run.loss_level.level:.3g} to {self.loss:.3g}"
            advice = "start again" if (healthy := self._healthy_checkpoint()) is None else f"--resume {healthy}"
            self.callback.on_note(
                f"warning: step {run.next_step}: {rise}; if it stays there, stop, then {advice} with a lower --lr"
            )
        run.save_last()
        self.losses_after_save = {}
        self.saved_at = time.monotonic()

    def _newest_healthy_step(self) -> int:
        """Return the step of the newest checkpoint whose weights had a usual loss in the step after it; 0: none."""
        run = self.run
        loss = float(total_loss(self.losses_after_save)) if self.losses_after_save else math.nan
        is_usual = math.isfinite(loss) and not run.loss_level.is_high(loss)
        return run.checkpoints.last_step or 0 if is_usual else run.healthy_step

    def _healthy_checkpoint(self) -> Path | None:
        """Return the checkpoint of `healthy_step`; `None` if there is none."""
        step = self.run.healthy_step
        return self.run.folder.checkpoints / EARLIER.format(step) if step else None

    # --- logs and evaluation

    def _log(self, entry: dict[str, float]) -> None:
        if self.run.config.data.on_error == "skip":
            entry["unreadable_images"] = len(self.unreadable)
        if self.run.config.train.on_nonfinite == "skip":
            entry["skipped_steps"] = int(self.run.stepper.guard.skipped)
        self.loss = entry["loss"]
        self.run.loss_level.add(self.loss)
        self.run.folder.add_metrics(entry)
        self.callback.on_log(entry)

    def _is_evaluation_due(self) -> bool:
        epochs = self.run.config.train.eval_every
        return bool(epochs) and self.run.next_step % max(1, round(epochs * self.run.steps_per_epoch)) == 0

    def _evaluate(self) -> None:
        """Score the validation split and save the best weights; without such a split, the newest weights are best.

        A stop signal ends the evaluation, which may take minutes; a resumed run repeats it first. The checkpoint from
        before it must be complete: the evaluation starts processes, which a thread that writes could block.
        """
        run = self.run
        processes.together(run.checkpoints.wait)
        if not run.task.has_val:
            run.evaluation_pending = False
            run.save(BEST)
            self._save_last()
            return
        on_unreadable = self._add_unscored if run.config.data.on_error == "skip" else None
        try:
            scores = run.task.score(run.eval_model(), on_unreadable, self._track_until_stopped)
        except _EvaluationStopped:
            return
        run.evaluation_pending = False
        epoch = round(run.next_step / run.steps_per_epoch, 2)
        run.folder.add_scores({"step": run.next_step, "epoch": epoch, **scores.row})
        run.folder.add_metrics({"step": run.next_step, **{f"val/{name}": value for name, value in scores.row.items()}})
        is_best = scores.value > run.best
        if is_best:
            run.best, run.best_step = scores.value, run.next_step
            run.save(BEST)
        self.callback.on_evaluation(scores, best=is_best)
        self._save_last()
        run.log.restart_clock()

    def _track_until_stopped(self, items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
        """Show the progress; raise `_EvaluationStopped` once a stop signal has arrived."""
        for item in self.track(items, description, total):
            if self.stop.received:
                raise _EvaluationStopped
            yield item

    def _add_unscored(self, error: DataError) -> None:
        self.unscored[str(error)] = None

    def _is_out_of_patience(self) -> bool:
        patience = self.run.config.train.patience
        return bool(patience) and self.run.next_step - self.run.best_step >= patience * self.run.steps_per_epoch


def _short_names(names: Sequence[str]) -> str:
    """Return the first names of images, without their folders."""
    shown = [Path(name).name for name in names[:MAX_LISTED_IMAGES]]
    return ", ".join(shown + ["…"] * (len(names) > MAX_LISTED_IMAGES))
