"""Whether an engine gets on, by its own counters: its HTTP server goes on answering when what generates hangs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

ASK_AFTER = 0.25
"""After which part of the patience an engine whose counters stand still is asked for a token, and how long that has."""

STEP_TOKENS = 2048
"""How many tokens of prompts an engine on CPUs reads in one step, between which nothing moves: vLLM's default."""
SLOW_CORE = 20e9
"""Operations a second of a slow core that has others to serve too. With bf16 instructions it is many times as many."""


def longest_step(parameter_count: int, cores: int) -> float:
    """Return how many seconds a step may take on CPUs: two operations for each parameter and token."""
    return 2 * parameter_count * STEP_TOKENS / (SLOW_CORE * max(1, cores))


@dataclass(frozen=True)
class Counters:
    """What an engine says of itself.

    Attributes:
        prompt_tokens: those it has read since its start; a prompt counts when it has been read to its end.
        generated_tokens: those it has written since its start.
        running: calls that it works on.
        waiting: calls that wait for their turn.
        cache_used: share of its room for keys and values in use; a long prompt moves it with each part that is read.
    """

    prompt_tokens: float = 0.0
    generated_tokens: float = 0.0
    running: float = 0.0
    waiting: float = 0.0
    cache_used: float = 0.0


@dataclass(frozen=True)
class Progress:
    """When an engine last got on, in seconds of any clock, and the counters that it showed then."""

    moved: float
    counters: Counters | None = None

    def seen(self, counters: Counters, moment: float) -> Progress:
        """Return it after a look: what differs from the last look was moved by the engine itself."""
        return self if counters == self.counters else Progress(moment, counters)

    def answered(self, moment: float) -> Progress:
        """Return it after the engine wrote a token for us."""
        return replace(self, moved=moment)

    def still(self, moment: float) -> float:
        """Return for how many seconds it has not got on."""
        return moment - self.moved

    def questionable(self, moment: float, patience: float) -> bool:
        """Return whether it must show by a small call that it lives: it is idle, or it hangs."""
        return self.still(moment) >= patience * ASK_AFTER

    @property
    def calls(self) -> int:
        """How many calls it had when it last got on."""
        return int(self.counters.running + self.counters.waiting) if self.counters else 0
