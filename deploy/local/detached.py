"""The supervisor in the background, started by `up --detach`: `python -m deploy.local.detached HOME OPTIONS FD`."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.local.serve import from_json, run_detached

if __name__ == "__main__":
    run_detached(Path(sys.argv[1]), from_json(sys.argv[2]), int(sys.argv[3]))
