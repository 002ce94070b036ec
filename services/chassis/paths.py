"""Names that come from somebody else (the key of an object, a manifest's path) as paths of files."""

from pathlib import Path, PurePosixPath

from services.chassis.errors import Invalid

_LONGEST_PART_BYTES = 255


def check_inside(name: str) -> str:
    """Return a name from outside (the key of an object, a manifest's path) if it can only be a file below a folder.

    Raises: Invalid: it is absolute, leads out of the folder, or is no name of a file.
    """
    parts = PurePosixPath(name).parts
    plain = parts and str(PurePosixPath(name)) == name and not name.startswith("/") and ".." not in parts
    whole = all(ord(char) >= 32 and ord(char) != 127 for char in name) and "\\" not in name and name != "."
    if not (plain and whole and all(len(part.encode("utf-8", "replace")) <= _LONGEST_PART_BYTES for part in parts)):
        raise Invalid(f"{name[:200]!r} is no path inside a folder.", reason="INVALID_PATH")
    return name


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file below a folder, for a name from outside: the only way from one to the other.

    Raises: Invalid: the name leads elsewhere, or a link in the folder does.
    """
    path = folder / check_inside(name)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Invalid(f"{name[:200]!r} leads out of its folder.", reason="INVALID_PATH")
    return path
