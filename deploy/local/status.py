"""What runs of a home now, and what it lacks, asked of the processes themselves."""

import asyncio
import time
from typing import Any

from deploy.local.health import NO_LACKS, AskLacks, Check, grpc_lacks, http_lacks
from deploy.local.home import STAGES, Home
from deploy.local.stack import Stack, program_version, version
from services.chassis.launch import shim


async def get_status(home: Home) -> dict[str, Any]:
    """`{home, running, ready, version, addresses, processes: [{name, state, pid, cannot_answer, degraded, …}]}`."""
    state = home.state()
    running = home.is_locked() and shim.is_alive(state.get("supervisor"))
    result: dict[str, Any] = {
        "home": str(home.path),
        "running": running,
        "ready": False,
        "version": state.get("version", version()),
        "pid": state["supervisor"]["pid"] if running else None,
        "uptime_seconds": round(time.time() - state["start_time"], 1) if running else None,
        "addresses": state.get("addresses", {}),
        "processes": [],
    }
    if not state:
        return result
    door = state["addresses"]["http"]  # as it was started, whatever the settings say by now
    checks = Stack(home, state["ports"]).checks(door)
    noted: dict[str, dict[str, Any]] = state.get("processes", {})
    lacks = {**{name: grpc_lacks(home, state["ports"][name]) for name in STAGES}, "gateway": http_lacks(door)}
    rows = [_describe(name, entry, checks[name], lacks.get(name)) for name, entry in noted.items()]
    result["processes"] = list(await asyncio.gather(*rows))
    result["ready"] = running and bool(noted) and all(row["state"] == "ready" for row in result["processes"])
    return result


async def _describe(name: str, entry: dict[str, Any], check: Check, lacks: AskLacks | None) -> dict[str, Any]:
    alive = shim.is_alive(entry["identity"])
    answers = alive and await check()
    said = await lacks() if alive and lacks is not None else None
    return {
        "name": name,
        "state": "ready" if answers else "down" if not alive else "not ready" if said else "starting",
        **(said or NO_LACKS),
        "pid": entry["identity"]["pid"] if alive else None,
        "address": entry["address"],
        "version": program_version(name),
        "restarts": entry["restarts"],
        "exit_code": entry["exit_code"],
        "memory_mb": memory_mb(entry["identity"]["pid"]) if alive else None,
    }


def memory_mb(pid: int) -> float | None:
    """Resident memory of a process."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            line = next(line for line in file if line.startswith("VmRSS:"))
    except (OSError, StopIteration):
        return None
    return round(int(line.split()[1]) / 1024, 1)


def table(found: dict[str, Any]) -> str:
    """Return the status as text for people."""
    if not found["running"]:
        return f"Modelry is not running in {found['home']}: modelry up --home {found['home']}"
    word = "ready" if found["ready"] else "not ready"
    lines = [f"Modelry {found['version']} in {found['home']}: {word} (pid {found['pid']})"]
    lines += [f"  {name:8} {address}" for name, address in found["addresses"].items()]
    lines.append(f"  {'process':12} {'state':9} {'pid':>8} {'restarts':>8} {'MB':>7}  {'version':8} address")
    for row in found["processes"]:
        columns = (row["pid"] or "-", row["restarts"], row["memory_mb"] or "-")
        numbers = "{:>8} {:>8} {:>7}".format(*columns)
        lines.append(f"  {row['name']:12} {row['state']:9} {numbers}  {row['version']:8} {row['address']}")
    return "\n".join([*lines, *_lack_lines(found["processes"])])


def _lack_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return what is lacking, one line each; nothing when all is well."""
    lines = []
    for row in rows:
        for word, shown in (("cannot_answer", "cannot answer"), ("degraded", "degraded")):
            for lack in row[word]:
                why = f": {lack['message']}" if lack.get("message") else ""
                lines.append(f"  {row['name']} {shown}: {lack['name']} since {lack['since_time']}{why}")
        if row["dead_letter_count"]:
            lines.append(f"  {row['name']} has {row['dead_letter_count']} dead letters: modelry dead-letters list")
    return lines
