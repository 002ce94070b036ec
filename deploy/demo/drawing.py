"""What the demo shows: the loss curve in the terminal, progress, and the closing tables."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from modelry.client import Client

CURVE_WIDTH, CURVE_HEIGHT = 64, 10
BLOCKS = " ▁▂▃▄▅▆▇█"
console = Console(width=120)


def state_of(resource: Any) -> str:
    """Return the word of a resource's state."""
    return str(resource.DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number[resource.state].name)


def follow_training(client: Client, job: Any, say: Callable[[str], None]) -> Any:
    """Follow a job to its end, a line every tenth of it, then its loss curve."""
    state, tenth = "", -1
    for now in client.watch_job(job=job.id):
        job = now
        if state_of(job) != state:
            state = state_of(job)
            say(f"  {state.lower()}: {job.cause}")
        shown = job.progress
        if shown.total_steps and int(10 * shown.step / shown.total_steps) > tenth:
            tenth = int(10 * shown.step / shown.total_steps)
            speed = f"{shown.tokens_per_second:.0f} tokens/s"
            say(f"  step {shown.step}/{shown.total_steps}  loss {shown.loss:.3f}  {speed}")
    points = [point.values["loss"] for point in client.read_job_metrics(job=job.id) if "loss" in point.values]
    for line in curve(points):
        say(line)
    return job


def follow_evaluation(client: Client, evaluation: Any, say: Callable[[str], None]) -> Any:
    """Follow an evaluation to its end, a line for each phase."""
    seen = ""
    for now in client.watch_evaluation(evaluation=evaluation.id):
        evaluation = now
        seen = _say_new(f"{state_of(evaluation).lower()} {evaluation.progress.phase}".strip(), seen, say)
    return evaluation


def follow_deployment(client: Client, deployment: Any, say: Callable[[str], None]) -> None:
    """Follow a deployment until it is ready."""
    seen = ""
    for now in client.watch_deployment(deployment=deployment.id):
        seen = _say_new(f"{now.name}: {state_of(now).lower()}, {now.ready_replicas} ready", seen, say)
        if state_of(now) in ("READY", "DELETED"):
            return


def _say_new(word: str, seen: str, say: Callable[[str], None]) -> str:
    if word != seen:
        say(f"  {word}")
    return word


def curve(values: Sequence[float]) -> list[str]:
    """Return a curve as lines of text, highest value on top."""
    if not values:
        return []
    bins = min(CURVE_WIDTH, len(values))
    means = []
    for index in range(bins):
        part = values[index * len(values) // bins : (index + 1) * len(values) // bins]
        means.append(sum(part) / len(part))
    top = max(means) or 1.0
    lines = []
    for row in range(CURVE_HEIGHT, 0, -1):
        eighths = (min(8, max(0, round((mean / top * CURVE_HEIGHT - row + 1) * 8))) for mean in means)
        label = f"{top * row / CURVE_HEIGHT:6.2f}"
        lines.append(f"  {label} ┤{''.join(BLOCKS[count] for count in eighths)}")
    lines.append(f"         └{'─' * bins} step {len(values)}")
    return lines


def stage_table(rows: Sequence[Any]) -> Table:
    """Stage, what came out, seconds."""
    table = Table("stage", "what came out", "seconds", title="The journey")
    for row in rows:
        table.add_row(row.stage, row.outcome, f"{row.seconds:.1f}")
    table.add_row("all", "", f"{sum(row.seconds for row in rows):.1f}", style="bold")
    return table


def answer_table(answers: Sequence[tuple[str, str, str]]) -> Table:
    """Return both models' answers side by side."""
    table = Table("held-out question", "base", "tuned", title="Asked with the openai package")
    for row in answers:
        table.add_row(*row)
    return table


def score_table(report: Any) -> Table:
    """Return both models' scores side by side, with what the paired test says."""
    table = Table("task", "metric", "row", "base", "tuned", "verdict", title="Scores")
    values: dict[tuple[str, str, str], dict[str, float]] = {}
    for score in report.scores:
        values.setdefault((score.task, score.metric.split("[")[0], score.group), {})[score.target] = score.value
    verdicts = {(c.task, c.metric.split("[")[0], c.group): c.verdict for c in report.comparisons}
    wanted = ("rouge_1_recall", "rouge_2_recall", "rouge_l_recall", "rouge_l_f", "bleu", "accuracy")
    for key, row in values.items():
        categories = ("Average", "STEM", "Social Sciences", "Humanities", "Other")
        if key[1] in wanted and key[2] in categories:
            cells = (f"{row.get(name, float('nan')):.3f}" for name in ("base", "tuned"))
            table.add_row(*key, *cells, verdicts.get(key, ""))
    return table
