"""`python -m deploy.demo [--home DIR] [--port N] [--down]`: the journey from an empty folder to answered questions."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.demo import drawing
from deploy.demo.desk import read_desk
from deploy.demo.journey import Journey, score_of
from deploy.local.home import Home
from deploy.local.stack import ACCESS_KEY
from modelry.client import Client, ModelryError
from services.chassis.launch import without_proxy
from services.chassis.objects import StoreAccess

HOME = Path("~/.modelry-demo")
TUNED_AT_LEAST, BASE_AT_MOST = 0.8, 0.35


def main() -> int:
    """Run the journey; 0 when every stage succeeded and the tuned model is measurably better."""
    parser = argparse.ArgumentParser(description="The whole journey on a real model, from nothing.")
    parser.add_argument("--home", type=Path, default=HOME, help="folder of the demo; emptied first")
    parser.add_argument("--port", type=int, help="HTTP port")
    parser.add_argument("--down", action="store_true", help="stop the installation at the end")
    chosen = parser.parse_args()
    home = chosen.home.expanduser().absolute()
    # The OpenAI client, like most programs, would ask a proxy for 127.0.0.1 too.
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = without_proxy(os.environ)
    _clear(home)
    try:
        _up(home, chosen.port)
        better = _journey(home)
    except (RuntimeError, ModelryError) as error:
        drawing.console.print(f"[red]The demo failed:[/] {error}\nThe logs are in {home / 'logs'}.")
        return 1
    finally:
        if chosen.down:
            _modelry("down", "--home", str(home))
    if not chosen.down:
        drawing.console.print(f"It goes on running. Stop it with: .venv/bin/modelry down --home {home}", soft_wrap=True)
    return 0 if better else 1


def _journey(home: Path) -> bool:
    desk = read_desk()
    with Client(home=str(home)) as client:
        journey = Journey(client, home, lambda text: drawing.console.print(text, highlight=False))
        address = Home(home).state()["addresses"]["objects"]
        access = StoreAccess(address, ACCESS_KEY, Home(home).secret("objects_secret_key"), "us-east-1")
        journey.fill_bucket(access, desk)
        journey.import_data()
        journey.tune()
        journey.publish()
        journey.evaluate()
        journey.deploy()
        answers = journey.ask(desk)
    report, key = journey.results["report"], journey.results["key"]
    for table in (drawing.score_table(report), drawing.answer_table(answers), drawing.stage_table(journey.rows)):
        drawing.console.print(table)
    drawing.console.print("Try it yourself:", style="bold")
    drawing.console.print(f"export MODELRY_API_KEY={key.secret}\n{key.curl}", soft_wrap=True, highlight=False)
    base, tuned = score_of(report, "base"), score_of(report, "tuned")
    if tuned < TUNED_AT_LEAST or base > BASE_AT_MOST:
        drawing.console.print(f"[red]The tuned model is not clearly better: {base:.2f} to {tuned:.2f}.[/]")
        return False
    return True


def _clear(home: Path) -> None:
    """Remove what an earlier demo left; refuse a folder that is something else."""
    if not home.exists():
        return
    if not (home / "state.json").exists() and any(home.iterdir()):
        raise SystemExit(f"{home} is no folder of the demo: choose another with --home.")
    _modelry("down", "--home", str(home))
    shutil.rmtree(home)


def _up(home: Path, port: int | None) -> None:
    home.mkdir(parents=True)
    ports = ["--port", str(port)] if port else []
    if _modelry("up", "--home", str(home), "--detach", *ports) != 0:
        raise RuntimeError("`modelry up` did not succeed (its words are above)")


def _modelry(*arguments: str) -> int:
    return subprocess.run([str(Path(sys.executable).parent / "modelry"), *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
