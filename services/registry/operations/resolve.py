"""What other services ask: resolve a model reference, and hold what it means."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.chassis.holds import Hold
from services.registry.domain import PRESETS, ModelVersion, State, parse_reference
from services.registry.operations.context import ServiceContext
from services.registry.operations.versions import existing, prepare_version


@dataclass(frozen=True)
class Resolved:
    """A version, and the base of an adapter."""

    version: ModelVersion
    base: ModelVersion | None = None


async def resolve_model(project: str, text: str, holder: str, context: ServiceContext, now: datetime) -> Resolved:
    """Return the version that a reference means; with a holder it and its base are held, and a preset is prepared.

    Raises: Invalid, NotFound.
    """
    reference = parse_reference(text, "reference")
    unit = context.writing() if holder else context.reading()
    async with unit as uow:
        version = await uow.resolve(project, reference, text)
        base = await existing(uow, version.base_id) if version.base_id else None
        if holder:
            for held in (version, base):
                if held is not None:
                    await uow.holds.take(Hold(held.id, holder, project, False, now))
            await uow.commit()
    if holder and version.state is State.AVAILABLE and not (version.failure and version.project == PRESETS):
        version = await prepare_version(version.id, context, now)
    return Resolved(version, base)
