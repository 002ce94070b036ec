"""What one inference call may ask for: the fields that multiply an engine's work, within the limits of its deployment.

They are read strictly, as all fields that the gateway acts on: an engine would take `"n": "1000"` for a number.
"""

from collections.abc import Mapping
from typing import Any

from gateway.openai_messages import Question
from services.chassis.errors import Invalid
from services.clients.records import RouteRecord

_TOKENS = ("max_tokens", "max_completion_tokens")
_LOGPROBS = ("top_logprobs", "prompt_logprobs")


def refuse_over(body: Mapping[str, Any], question: Question, route: RouteRecord) -> None:
    """Refuse what is over the limits of a deployment. Raises: Invalid, naming the field."""
    limits = route.limits
    _check(body, "n", 1, limits.choices)
    _check(body, "best_of", 1, limits.choices)
    for name in _TOKENS:
        _check(body, name, 0, route.max_model_length or None)
    if not isinstance(body.get("logprobs"), bool):  # a flag for chat, a number for text
        _check(body, "logprobs", 0, limits.logprobs)
    for name in _LOGPROBS:
        _check(body, name, 0, limits.logprobs)
    listed = body.get("logprob_token_ids")
    if isinstance(listed, list) and len(listed) > limits.logprobs:
        raise _refused("logprob_token_ids", f"has {len(listed)} tokens; {limits.logprobs} is the most")
    if question.sequences > limits.sequences:
        field = "n" if question.choices > 1 else "prompt"
        words = f"makes {question.sequences} sequences of this call (n for each prompt); {limits.sequences} is the most"
        raise _refused(field, words)


def _check(body: Mapping[str, Any], name: str, least: int, most: int | None) -> None:
    value = body.get(name)
    if value is None:
        return
    if type(value) is not int or value < least:
        raise _refused(name, f"must be a whole number of at least {least}")
    if most is not None and value > most:
        raise _refused(name, f"is {value}; {most} is the most for this model")


def _refused(field: str, words: str) -> Invalid:
    return Invalid(f"The field {field} {words}.", field=field)
