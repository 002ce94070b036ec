"""The reference page of the environment: which variables reach which programs."""

from services.chassis.launch import INHERITED, LONGEST_TEMPORARY_BYTES, NAMELESS, SET_ALWAYS

INTRODUCTION = f"""# Environment

What programs see of the environment that `modelry up` is started in; everything else stays outside. The supervisor
makes the environment of services, the gateway, NATS and the object store by this list, the launcher that of workers,
replicas and one-shot programs. Keys, endpoints and regions of stores come from settings and credentials alone: no
`AWS_*` variable and nothing in `~/.aws` is read.

`TMPDIR` passes when its name has at most {LONGEST_TEMPORARY_BYTES} bytes: sockets lie there, and a socket's path may
have 107. One that cannot be written to stops `modelry up`. Processes of an installation, its object store and clients
on the same machine are reached without a proxy, whatever is set; `no_proxy=*` leaves all proxies out.
"""


def page() -> str:
    """Return the list: what passes, to whom, and why."""
    lines = [INTRODUCTION, "| variables | reach | because |", "|---|---|---|"]
    for group in INHERITED:
        names = " ".join(f"`{name}`" for name in group.names)
        lines.append(f"| {names} | {'every program' if group.programs else 'services, gateway'} | {group.why} |")
    named = " and ".join(f"`{name}`" for name in NAMELESS)
    always = ", ".join(f"`{name}={value}`" for name, value in SET_ALWAYS.items())
    return "\n".join([*lines, "", f"Set for every program: {always}; {named} too, where they are not set."])
