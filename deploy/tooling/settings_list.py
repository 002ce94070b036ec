"""The reference page of the settings of every process."""

from collections.abc import Iterator
from typing import Any

from deploy.local.effective import settings_class
from deploy.local.home import STAGES
from services.chassis.jobs import JobSettings
from services.chassis.launch import LaunchSettings
from services.chassis.settings import Settings

INTRODUCTION = """# Settings

Setting `lease_seconds` of service `training` is looked up as `MODELRY_TRAINING_LEASE_SECONDS`, then
`MODELRY_LEASE_SECONDS`, then `[training] lease_seconds` in `DIR/modelry.toml`, then `lease_seconds` at its
top, then (secrets) in the file `DIR/secrets/lease_seconds`. `modelry config` prints those in force.
"""
# Settings that several processes share, each beside those of the one above.
SHARED = (
    ("Every process", Settings),
    ("Processes that start programs: registry, serving, training, evaluation", LaunchSettings),
    ("Processes that run jobs: training, evaluation", JobSettings),
)
# A limit of a number, as pydantic keeps it -> how it is written.
LIMITS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "pattern": "`{}`"}


def page() -> str:
    """Return every setting with its default, limits and meaning."""
    lines = [INTRODUCTION]
    known: set[str] = {"service"}
    for title, cls in SHARED:
        lines += [f"## {title}", "", *rows(cls, known), ""]
        known |= set(cls.model_fields)
    for name in (*STAGES, "gateway"):
        own = settings_class("gateway" if name == "gateway" else f"services.{name}")
        changed = {field for field in own.model_fields if is_changed(own, field)}
        if set(own.model_fields) - known | changed:
            lines += [f"## {name}", "", *rows(own, known - changed), ""]
    return "\n".join(lines)


def is_changed(cls: Any, field: str) -> bool:
    """Return whether a process has another default for a setting of every process."""
    common = Settings.model_fields.get(field)
    return common is not None and common.default != cls.model_fields[field].default


def rows(cls: Any, known: set[str]) -> Iterator[str]:
    """Yield a table of the fields that are not known yet."""
    yield "| setting | default | meaning |"
    yield "|---|---|---|"
    for name, field in cls.model_fields.items():
        if name not in known:
            default = "required" if field.is_required() else f"`{field.default}`" if str(field.default) else ""
            words = (field.description or "").replace("|", "\\|")
            limits = ", ".join(
                shown.format(getattr(limit, kind))
                for limit in field.metadata
                for kind, shown in LIMITS.items()
                if getattr(limit, kind, None) is not None
            )
            limits = limits.replace("|", "\\|")
            yield f"| `{name}` | {default} | {words}{f' ({limits})' if limits else ''} |"
