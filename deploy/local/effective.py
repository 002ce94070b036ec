"""The settings in force of each process, with the place that each came from."""

import importlib
import importlib.util

from deploy.local.home import STAGES, CannotStart, Home, choose_ports
from deploy.local.stack import ROOT, Stack
from services.chassis.settings import Settings, StartError, explain

# Where a process keeps its settings class, in the order of looking.
PLACES = ("settings", "__main__")


def effective_settings(home: Home) -> list[dict[str, str]]:
    """Return a row per process and setting, `{service, name, value, source}`, secrets masked. Raises CannotStart."""
    ports = home.state().get("ports") or choose_ports({}, {})
    stack = Stack(home, ports)
    rows = []
    for name in (*STAGES, "gateway"):
        package = "gateway" if name == "gateway" else f"services.{name}"
        if not (ROOT.joinpath(*package.split(".")) / "__main__.py").exists():
            continue
        try:
            result = explain(settings_class(package), name, stack.environment(name))
        except StartError as error:
            raise CannotStart(str(error)) from None
        rows += [{"service": name, "name": one.name, "value": one.value, "source": one.source} for one in result]
    return rows


def settings_class(package: str) -> type[Settings]:
    """Return the settings class of a process: its own, or the common one when it adds none."""
    for place in PLACES:
        if importlib.util.find_spec(f"{package}.{place}") is None:
            continue
        module = importlib.import_module(f"{package}.{place}")
        own = [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Settings) and value.__module__.startswith(package)
        ]
        if own:
            return max(own, key=lambda one: len(one.__mro__))
    return Settings
