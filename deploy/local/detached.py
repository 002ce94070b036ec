"""The supervisor in the background, started by `up --detach`: `python -m deploy.local.detached HOME OPTIONS FD`."""

import json
import sys
from pathlib import Path

from deploy.local.serve import run_detached
from deploy.local.supervisor import Options

if __name__ == "__main__":
    run_detached(Path(sys.argv[1]), Options(**json.loads(sys.argv[2])), int(sys.argv[3]))
