"""`python -m services.serving.worker.replica ARGUMENTS…`: becomes the engine, on the cores that the launcher gave.

Which cores they are is known only at the start, and the engine reads them when it is imported: so this program, which
is standard library only, sets them and replaces itself by the engine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

ENGINE = "services.serving.worker.engine"


def engine_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the engine: bound to its cores."""
    found = dict(environ)
    cores = environ.get("MODELRY_CPUS", "")
    if cores:
        found.setdefault("VLLM_CPU_OMP_THREADS_BIND", cores)
        found.pop("OMP_NUM_THREADS", None)  # the binding says how many threads there are
    return found


def main() -> None:
    """Replaces this process: pid, log and lock stay what they are."""
    argv = [sys.executable, "-m", ENGINE, *sys.argv[1:]]
    os.execve(sys.executable, argv, engine_environment(os.environ))  # noqa: S606 - fixed program, arguments from serving


if __name__ == "__main__":
    main()
