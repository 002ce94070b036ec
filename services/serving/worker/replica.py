"""`python -m services.serving.worker.replica ARGUMENTS…`: becomes the engine, on the cores that the launcher gave.

Which cores they are is known only at the start, and the engine reads them when it is imported: so this small program
sets them and replaces itself by the engine.
"""

import os
import sys

from services.chassis.engines import bound_to_cores

ENGINE = "services.serving.worker.engine"


def main() -> None:
    """Replace this process: pid, log and lock stay what they are."""
    argv = [sys.executable, "-m", ENGINE, *sys.argv[1:]]
    os.execve(sys.executable, argv, bound_to_cores(os.environ))  # noqa: S606 - fixed program, arguments from serving


if __name__ == "__main__":
    main()
