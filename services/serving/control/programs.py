"""One-shot programs of serving: merge an adapter into its base, describe how a model's chats become tokens."""

from __future__ import annotations

from pathlib import Path

from services.chassis.errors import Unavailable
from services.chassis.launch import Launcher, ProgramRun
from services.serving.model_work import MODULE, ModelWork


class Programs:
    """Runs them. A program that a dead service began is found again by its id."""

    def __init__(self, launcher: Launcher, home: Path, seconds: float) -> None:
        self._launcher, self._home, self._seconds = launcher, home, seconds

    async def run(self, launch_id: str, work: ModelWork) -> Path:
        """Run until the output is there; it is there already after the first success.

        Raises: Unavailable: there is no place for it, or the program failed; why is in the message.
        """
        if work.output.exists():
            return work.output
        run = ProgramRun(self._launcher, self._home, launch_id)
        await run.start(MODULE, work.to_json())
        result = await run.finish(self._seconds)
        if not work.output.exists():
            why = result.message if result is not None else await run.how_it_ended()
            raise Unavailable(f"{launch_id} failed: {why}", reason="PROGRAM_FAILED")
        await run.discard()
        return work.output
