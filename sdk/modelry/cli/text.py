"""Text between this process and its terminal: UTF-8 inside, and no end because a letter cannot be shown."""

import codecs
import io
import os
import sys

_ESCAPED = "backslashreplace"


def prepare_text() -> None:
    """Make arguments, names of files and `--json` UTF-8 whatever the locale says; a terminal gets what it can show.

    Python decodes arguments and names when it starts, and cannot change its mind: under another locale, or none, this
    process is replaced by one that reads UTF-8.
    """
    if sys.getfilesystemencoding() != "utf-8":
        terminal = os.environ.get("PYTHONIOENCODING") or sys.stdout.encoding
        argv = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execve(sys.executable, argv, {**os.environ, "PYTHONIOENCODING": terminal})  # noqa: S606 - ourselves
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPED)
    if "--json" in sys.argv and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors=_ESCAPED)
    if isinstance(sys.stdin, io.TextIOWrapper) and codecs.lookup(sys.stdin.encoding).name == "ascii":
        sys.stdin.reconfigure(encoding="utf-8")
