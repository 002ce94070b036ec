"""Make and keep `.venv`: `make setup`.

Runs on a bare Python (standard library only). It is quick when nothing changed: a stamp in `.venv` holds the digest of
the files that say what is wanted. When they changed, only what is missing is installed.

Environment:
    MODELRY_EXTRA_INDEX_URL: one more package index for pip, for example PyTorch's CPU index.
    MODELRY_FLAVOUR: `cpu` or `gpu`; found out by itself when not set.
"""

import ctypes.util
import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "modelry-setup.stamp"
CONSTRAINTS = ROOT / "deploy" / "tooling" / "constraints-cpu.txt"
SOURCES = (ROOT / "pyproject.toml", ROOT / "sdk" / "pyproject.toml", CONSTRAINTS, Path(__file__).resolve())

# Runs inside .venv, whose `packaging` can read requirement lines; prints what is wanted and not there.
FIND_MISSING = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
try:
    from packaging.requirements import Requirement
except ImportError:
    from pip._vendor.packaging.requirements import Requirement
missing = []
for line in json.load(sys.stdin):
    wanted = Requirement(line)
    if wanted.marker is not None and not wanted.marker.evaluate():
        continue
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        found = None
    if found is None or not wanted.specifier.contains(found, prereleases=True):
        missing.append(line)
print(json.dumps(missing))
"""


def main() -> int:
    """Bring `.venv` to what the requirement files say; 0 when it is there."""
    if sys.argv[1:] == ["--constraints"]:
        return write_constraints()
    if sys.version_info < (3, 11):  # noqa: UP036 - this file meets any Python
        print("modelry needs Python 3.11 or newer", file=sys.stderr)
        return 2
    flavour = choose_flavour()
    digest = wanted_digest(flavour)
    if STAMP.is_file() and STAMP.read_text() == digest and PYTHON.exists():
        return 0
    if not PYTHON.exists():
        print(f"making .venv ({flavour})", flush=True)
        venv.create(VENV, with_pip=True, symlinks=True)
    install(flavour)
    offer_fast_allocator()
    STAMP.write_text(digest)
    print(f".venv is ready ({flavour})")
    return 0


def choose_flavour() -> str:
    """`gpu` on a machine whose NVIDIA driver answers, else `cpu`."""
    chosen = os.environ.get("MODELRY_FLAVOUR", "")
    if chosen in ("cpu", "gpu"):
        return chosen
    if chosen:
        raise SystemExit(f"MODELRY_FLAVOUR: expected cpu or gpu, got {chosen!r}")
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "cpu"
    answer = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    return "gpu" if answer.returncode == 0 and "GPU" in answer.stdout else "cpu"


def wanted_digest(flavour: str) -> str:
    """Return the digest of everything that decides what is installed."""
    digest = hashlib.sha256(f"{flavour} {ROOT} {sys.version_info[:2]}".encode())
    for path in SOURCES:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def requirements(flavour: str) -> tuple[list[str], list[str], list[str]]:
    """Return what the two distributions ask for: (requirements, those without dependencies, unwanted packages)."""
    import tomllib  # here, so that an older Python gets to the sentence in main

    server = tomllib.loads((ROOT / "pyproject.toml").read_text())
    sdk = tomllib.loads((ROOT / "sdk" / "pyproject.toml").read_text())
    project = server["project"]
    wanted = [line for line in project["dependencies"] if not line.startswith("modelry==")]
    wanted += sdk["project"]["dependencies"]
    wanted += [line for extra in (flavour, "demo", "dev") for line in project["optional-dependencies"][extra]]
    extras = server["tool"]["modelry"]["environment"]
    return wanted, extras["without-dependencies"], extras["unwanted-on-cpu"] if flavour == "cpu" else []


def install(flavour: str) -> None:
    """Install what is missing, take away what breaks, and link the two distributions of this tree."""
    wanted, bare, unwanted = requirements(flavour)
    missing = find_missing(wanted)
    if missing:
        constraints = ["-c", str(CONSTRAINTS)] if flavour == "cpu" else []
        pip("install", *constraints, *missing)
    for line in find_missing(bare):
        pip("install", "--no-deps", line)
    present = [name for name in unwanted if not find_missing([name])]
    if present:
        pip("uninstall", "--yes", *present)
    pip("install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT / "sdk"), "--editable", str(ROOT))


def find_missing(lines: list[str]) -> list[str]:
    """Return those requirement lines that `.venv` does not satisfy."""
    answer = subprocess.run(
        [PYTHON, "-c", FIND_MISSING], input=json.dumps(lines), capture_output=True, text=True, check=True
    )
    result: list[str] = json.loads(answer.stdout)
    return result


def pip(*arguments: str) -> None:
    """Run pip of `.venv`; its own words are shown, a failure ends the set-up."""
    command = [str(PYTHON), "-m", "pip", arguments[0], "--quiet", "--disable-pip-version-check", *arguments[1:]]
    if os.geteuid() == 0:
        command.append("--root-user-action=ignore")
    extra = os.environ.get("MODELRY_EXTRA_INDEX_URL", "")
    if extra and arguments[0] == "install":
        command += ["--extra-index-url", extra]
    print("pip", " ".join(arguments), flush=True)
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit("make setup: pip could not install the packages (its message is above)")


def write_constraints() -> int:
    """Note the versions that are installed now; those taken away after the install keep their line."""
    frozen = subprocess.run(
        [PYTHON, "-m", "pip", "freeze", "--all", "--exclude-editable"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    _, bare, unwanted = requirements("cpu")
    skipped = ("pip==", *(line.split("==")[0] for line in bare))
    before = CONSTRAINTS.read_text().splitlines()
    kept = [line for line in before if line.startswith(("#", *(f"{name}==" for name in unwanted)))]
    lines = [line.split("+")[0] for line in frozen if "==" in line and not line.startswith(skipped)]
    comments = [line for line in kept if line.startswith("#")]
    pins = sorted({*lines, *(line for line in kept if not line.startswith("#"))}, key=str.lower)
    CONSTRAINTS.write_text("\n".join([*comments, *pins]) + "\n")
    return 0


def offer_fast_allocator() -> None:
    """Install tcmalloc where that is simple: replicas and training are faster with it and run without it."""
    apt = shutil.which("apt-get")
    if ctypes.util.find_library("tcmalloc_minimal") or apt is None or os.geteuid() != 0:
        return
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "libtcmalloc-minimal4"]):
        try:
            subprocess.run([apt, *command], check=True, timeout=120, env=environment, **quiet)  # type: ignore[call-overload]
        except (subprocess.SubprocessError, OSError):
            print("libtcmalloc-minimal4 could not be installed; replicas and training run a little slower without it")
            return


if __name__ == "__main__":
    raise SystemExit(main())
