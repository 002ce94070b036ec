"""Which events there are: the nouns of resources, and what happens to each. A test compares it with what is emitted."""

from services.chassis.errors import Invalid

_WORK = "created validating queued running stopping succeeded failed stopped updated deleted"
EVENT_NAMES: dict[str, frozenset[str]] = {
    noun: frozenset(words.split())
    for noun, words in {
        "alias": "set deleted",
        "apiKey": "created rotated expired revoked",
        "credential": "created updated verified deleted",
        "dataset": "created updated deleted",
        "datasetVersion": "created importing ready published failed deleted",
        "deployment": (
            "created starting ready degraded idle failing deleting deleted updated scaled prepared restarted "
            "keyClaimed adapterAdded adapterRemoved adaptersChanged"
        ),
        "evaluation": _WORK,
        "file": "created deleted",
        "job": f"{_WORK} pausing paused resuming checkpointed published",
        "model": "created updated deleted",
        "modelVersion": "created preparing ready available failed deleted",
        "project": "created updated",
        "stopwordList": "created deleted",
    }.items()
}


def refuse_unknown_names(resource: str, happening: str) -> None:
    """Refuse a noun or a happening that no event has: its list would be empty for ever. Raises: Invalid."""
    if resource and resource not in EVENT_NAMES:
        nouns = ", ".join(EVENT_NAMES)
        raise Invalid(f"resource {resource!r} is none that has events; there are {nouns}.", field="resource")
    known = EVENT_NAMES[resource] if resource else frozenset[str]().union(*EVENT_NAMES.values())
    if happening and happening not in known:
        raise Invalid(f"happening {happening!r} is none; there are {', '.join(sorted(known))}.", field="happening")
