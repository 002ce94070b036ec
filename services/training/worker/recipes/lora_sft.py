"""Supervised fine-tuning of an adapter (LoRA): read downwards, Config, setup, train, save, main."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from services.chassis.engines import Accelerator
from services.chassis.errors import Invalid
from services.chassis.objects import Manifest
from services.training.work_spec import TrainingWork
from services.training.worker import engines, model, state
from services.training.worker.batching import by_tokens, collate, label_count
from services.training.worker.inputs import Files, Inputs, read, settings_digest
from services.training.worker.losses import label_loss, mean
from services.training.worker.order import Order, deal
from services.training.worker.progress_reporting import ReportSink, Throughput
from services.training.worker.ranks import Ranks
from services.training.worker.rows import Example
from services.training.worker.schedule import factor
from services.training.worker.upload import Uploader

_log = logging.getLogger(__name__)
EVALUATION_TOKENS = 2_048
"""Tokens of a batch in validation."""


@dataclass(frozen=True)
class Config:
    """What a run is given."""

    work: TrainingWork
    folder: Path
    reports: ReportSink
    accelerator: Accelerator


@dataclass
class Run:
    """What a run works with."""

    config: Config
    ranks: Ranks
    inputs: Inputs
    tuned: model.Tuned
    engine: engines.Engine
    order: Order
    position: state.Position
    uploader: Uploader | None
    speed: Throughput = field(default_factory=Throughput)
    saved_step: int = -1


@dataclass(frozen=True)
class Sums:
    """What a step or an evaluation came to, over all ranks."""

    loss: float
    right: float
    labels: int
    stop: bool = False


def setup(config: Config) -> Run:
    """Read everything, load the model, and go on from a checkpoint where there is one."""
    work, reports, accelerator = config.work, config.reports, config.accelerator
    how = work.hyperparameters
    device = torch.device(accelerator.device)
    if how.compute_type not in accelerator.compute_types:
        raise Invalid(f"compute_type {how.compute_type} needs a GPU, and there is none; use BF16.", reason="NEEDS_GPU")
    if how.flash_attention not in accelerator.attention:
        raise Invalid(f"flash_attention {how.flash_attention} needs a GPU; use AUTO.", reason="NEEDS_GPU")
    ranks = Ranks(accelerator.backend, device)
    files = Files(reports.spec, config.folder)
    inputs = read(work, files, lambda phase, done, total, unit: reports.progress(done, total, unit, phase))
    reports.progress(0, 0, "steps", "loading the model")
    try:
        tuned = model.load(inputs.model, how, accelerator.attention[how.flash_attention], device)
    except ValueError as error:
        if "arget modules" not in str(error):
            raise
        raise Invalid(f"target_modules: {error}", reason="UNKNOWN_TARGET_MODULES") from error
    engine = engines.make(tuned.masters, how, ranks, device)
    weights = [example.weight for example in inputs.training.examples]
    batch = how.batch_size * how.gradient_accumulation * how.world_size
    order = Order(weights, batch, how.epochs, how.seed)
    if not order.rows_per_epoch:
        raise Invalid("The weights of the data sets leave no row in an epoch.", reason="NO_USABLE_ROWS")
    position = state.Position(settings_digest(work))
    state.seed_all(how.seed, ranks.rank)
    uploader = Uploader(files.output, work.output.bucket) if ranks.leads else None
    run = Run(config, ranks, inputs, tuned, engine, order, position, uploader)
    if work.resume:
        resume(run, files.checkpoint(work.resume))
    return run


def resume(run: Run, folder: Path) -> None:
    """Put everything back to where a checkpoint left it."""
    saved = state.read_state(folder, run.position.settings)
    run.position = saved.position
    run.saved_step = saved.position.step
    run.engine.load(saved.tensors, saved.position.step)
    run.engine.load_extra(saved.extra)
    if run.ranks.rank < len(saved.random_states):
        state.set_random_state(saved.random_states[run.ranks.rank])
    _log.info("goes on after step %d", saved.position.step)


def train(run: Run) -> bool:
    """Do all steps that are left. Returns False when it was asked to stop before the last."""
    how, order, position = run.config.work.hyperparameters, run.order, run.position
    batches: list[list[int]] = []
    epoch = -1
    while position.step < order.total_steps and not out_of_patience(run):
        if position.step // order.steps_per_epoch != epoch:
            epoch = position.step // order.steps_per_epoch
            batches = order.batches(epoch)
        begin = time.perf_counter()
        rows = batches[position.step % order.steps_per_epoch]
        examples = [run.inputs.training.examples[row] for row in rows]
        rate = how.learning_rate * factor(position.step, order.total_steps, how.warmup_ratio, how.lr_scheduler)
        sums, norm = one_step(run, rows, rate)
        position.step += 1
        tokens = sum(len(example.ids) for example in examples)
        position.trained_tokens += tokens
        run.speed.add(time.perf_counter() - begin, tokens)
        tell(run, sums, rate, norm)
        if due(run) or sums.stop:
            if not sums.stop and run.inputs.validation.examples:
                evaluate(run)
            save(run)
        if sums.stop and position.step < order.total_steps:
            return False
    return True


def one_step(run: Run, rows: Sequence[int], rate: float) -> tuple[Sums, float]:
    """Learn from the rows of one global batch. Returns what it came to, and the norm of the gradients.

    The loss is divided by the labels of the whole batch, over all micro-batches and ranks, before any backward.
    """
    how, ranks, device = run.config.work.hyperparameters, run.ranks, run.tuned.device
    examples = run.inputs.training.examples
    labels = label_count([examples[row] for row in rows])
    run.tuned.network.train()
    loss = torch.zeros((), device=device)
    right = torch.zeros((), dtype=torch.long, device=device)
    micro = deal(rows, how.batch_size, ranks.size)
    for number, parts in enumerate(micro):
        mine = [examples[row] for row in parts[ranks.rank]]
        if mine:
            batch = collate(mine).to(device)
            part, hits = label_loss(run.tuned.logits(batch, how.neftune_alpha), batch.targets)
            loss, right = loss + part.detach(), right + hits
        else:  # the others wait for this rank's gradients, even if it has none
            part = sum((weight.sum() * 0.0 for weight in run.tuned.masters.values()), torch.zeros((), device=device))
        run.engine.backward(part / labels, last=number == len(micro) - 1)
    norm = run.engine.step(rate)
    stop = run.config.reports.stop_requested.is_set()
    total, hits_in_all, stops = ranks.total(float(loss), float(right), float(stop))
    if not math.isfinite(total):
        message = f"The loss is not a number in step {run.position.step + 1}; try a lower learning rate."
        raise Invalid(message, reason="TRAINING_DIVERGED")
    return Sums(total, hits_in_all, labels, stops > 0), norm


@torch.no_grad()
def validation_sums(run: Run) -> Sums:
    """Measure the validation rows, shared out among the ranks."""
    run.tuned.network.eval()
    examples: list[Example] = run.inputs.validation.examples
    groups = by_tokens(examples, EVALUATION_TOKENS)
    loss = right = 0.0
    for group in groups[run.ranks.rank :: run.ranks.size]:
        batch = collate(group).to(run.tuned.device)
        part, hits = label_loss(run.tuned.logits(batch), batch.targets)
        loss, right = loss + float(part), right + float(hits)
    total, hits_in_all = run.ranks.total(loss, right)
    return Sums(total, hits_in_all, label_count(examples))


def evaluate(run: Run) -> None:
    """Measure, report, and note whether it is the best so far."""
    position = run.position
    run.config.reports.progress(position.step, run.order.total_steps, "steps", "evaluating")
    sums = validation_sums(run)
    loss = mean(sums.loss, sums.labels)
    values = {"validation_loss": loss, "validation_token_accuracy": mean(sums.right, sums.labels)}
    run.config.reports.metrics(position.step, values)
    position.metrics.update(values)
    _log.info("step %d: validation loss %.4f", position.step, loss)
    if position.best_loss is None or loss < position.best_loss:
        position.best_loss, position.evaluations_without_better = loss, 0
    else:
        position.evaluations_without_better += 1


def out_of_patience(run: Run) -> bool:
    """Return whether the validation loss has not become better for as long as was asked for."""
    patience = run.config.work.hyperparameters.early_stopping_patience
    return bool(patience) and run.position.evaluations_without_better >= patience


def due(run: Run) -> bool:
    """Return whether a checkpoint is due: at the interval or the end of an epoch, and at the end."""
    interval = run.config.work.hyperparameters.checkpoint_interval or run.order.steps_per_epoch
    return run.position.step % interval == 0 or run.position.step == run.order.total_steps


def tell(run: Run, sums: Sums, rate: float, norm: float) -> None:
    """Report a step."""
    position, reports, total = run.position, run.config.reports, run.order.total_steps
    epoch = position.step / run.order.steps_per_epoch
    values = {
        "loss": mean(sums.loss, sums.labels),
        "token_accuracy": mean(sums.right, sums.labels),
        "learning_rate": rate,
        "gradient_norm": norm,
        "trained_tokens": float(position.trained_tokens),
        "tokens_per_second": run.speed.tokens_per_second,
        "epoch": epoch,
    }
    position.metrics = {name: values[name] for name in ("loss", "token_accuracy")}
    if position.step % run.config.work.hyperparameters.logging_interval == 0 or position.step == total:
        reports.metrics(position.step, values)
        _log.info("step %d/%d: loss %.4f", position.step, total, values["loss"])
    reports.progress(position.step, total, "steps", "training", run.speed.eta_seconds(total - position.step))


def save(run: Run) -> None:
    """Write a whole checkpoint here and let it be uploaded and reported while training goes on."""
    position, work = run.position, run.config.work
    if position.step == run.saved_step:
        return
    run.saved_step = position.step
    tensors = run.engine.state()
    random_states = run.ranks.gather(state.random_state())
    if run.uploader is None:
        return
    folder = run.config.folder / "checkpoints" / f"checkpoint-{position.step}"
    base = f"{work.model.version_id}@{work.model.digest or work.model.manifest.digest}"
    model.save_adapter(run.tuned, folder / "adapter", base)
    state.write_state(folder, tensors, position, random_states, run.engine.extra())
    prefix = f"{work.output.prefix.rstrip('/')}/checkpoint-{position.step}"
    body = {
        "step": position.step,
        "epoch": position.step / run.order.steps_per_epoch,
        "bucket": work.output.bucket,
        "prefix": prefix,
        "metrics": dict(position.metrics),
        "fingerprint": run.inputs.chat_fingerprint,
        "best": position.best_loss is None or position.metrics.get("validation_loss") == position.best_loss,
        "system_prompt": run.inputs.system_prompt[:20_000],
    }

    def uploaded(manifest: Manifest) -> None:
        stored = {"manifest": manifest.to_json(), "adapter_manifest": manifest.below("adapter/").to_json()}
        run.config.reports.send("checkpoint", body | stored)

    run.uploader.put(folder, prefix, uploaded)


def result(run: Run) -> dict[str, Any]:
    """Return what a finished job tells."""
    refused = run.inputs.training.refused + run.inputs.validation.refused
    return {
        "steps": run.position.step,
        "total_steps": run.order.total_steps,
        "epoch": run.position.step / run.order.steps_per_epoch,
        "trained_tokens": run.position.trained_tokens,
        "metrics": run.position.metrics,
        "best_validation_loss": run.position.best_loss,
        "stopped_early": run.position.step < run.order.total_steps,
        "refused_rows": len(refused),
        "refused": [str(one) for one in refused[:20]],
        "fingerprint": run.inputs.chat_fingerprint,
    }


def main(config: Config) -> None:
    """Train to the end, or to a stop; reports `finished` or `stopped` after the last checkpoint is in the store."""
    run = setup(config)
    try:
        done = train(run)
        if run.uploader is not None:
            run.config.reports.progress(run.position.step, run.order.total_steps, "steps", "saving")
            run.uploader.close()
        if done:
            config.reports.send("finished", {"result": result(run)})
        else:
            config.reports.send("stopped", {"step": run.position.step})
    finally:
        run.ranks.close()
