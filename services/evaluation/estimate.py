"""How long an evaluation will take, before it runs. Pure."""

from dataclasses import dataclass

from services.chassis.jobs import Estimate
from services.evaluation.benchmarks import presets
from services.evaluation.domain import Evaluation

REFERENCE_PARAMETERS = 135_000_000
START_MINUTES = 0.5
"""Start of a worker: imports, models, the engine."""
TYPICAL_ANSWER_TOKENS = 48

_FASTER, _SLOWER = 1.6, 0.4


@dataclass(frozen=True)
class MeasuredSpeed:
    """How fast this machine evaluates a model of 135M parameters, on all of its cores."""

    choices_per_second: float = 20.0
    tokens_per_second: float = 250.0


def estimate(evaluation: Evaluation, speed: MeasuredSpeed) -> Estimate:
    """Return the estimate of an evaluation whose references are resolved.

    Time falls with the speed and grows with the size of each model and with the examples before each question; the
    range is a factor of 4 wide, since cores may be shared and answers differ in length.
    """
    seconds = 0.0
    for target in evaluation.targets:
        size = max(target.parameter_count, 1_000_000) / REFERENCE_PARAMETERS
        for task in evaluation.tasks:
            if task.preset:
                shots = presets.PRESETS[task.benchmark].shots if task.shots is None else task.shots
                seconds += task.question_count / speed.choices_per_second * size * (1 + shots / 10)
            else:
                tokens = task.question_count * min(evaluation.generation.max_tokens, TYPICAL_ANSWER_TOKENS)
                seconds += tokens / speed.tokens_per_second * size
    minutes = seconds / 60
    low, high = START_MINUTES + minutes / _FASTER, START_MINUTES * 3 + minutes / _SLOWER
    models = len(evaluation.targets)
    notes = (
        f"{evaluation.question_count:,} questions: {len(evaluation.tasks)} tasks on {models} models.",
        "Answers that the cache holds cost no time.",
    )
    words = f"Evaluate {models} models on {len(evaluation.tasks)} tasks"
    return Estimate(round(low, 2), round(high, 2), words, notes)
