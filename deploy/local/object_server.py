"""The embedded S3 server: rclone over a folder whose sub-folders are the buckets."""

import shutil
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.files import LOOPBACK

BUCKET = "modelry"
REGION = "us-east-1"


@dataclass(frozen=True)
class ObjectServer:
    """One server: its folder, port and the key pair that it accepts."""

    folder: Path
    port: int
    access_key: str
    secret_key: str = field(repr=False)
    host: str = LOOPBACK

    @property
    def url(self) -> str:
        """The endpoint for S3 clients (path-style addressing)."""
        return f"http://{self.host}:{self.port}"

    def prepare(self) -> None:
        """Make the folder and the bucket, and remove what broken uploads of a server before left."""
        (self.folder / BUCKET).mkdir(parents=True, exist_ok=True)
        for left in self.folder.rglob(".rclone_temp_*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def command(self) -> list[str]:
        """Return the command that serves it; the key pair is in the environment, where `ps` does not show it."""
        program = str(Path(sysconfig.get_path("scripts")) / "rclone")
        address = f"{self.host}:{self.port}"
        return [
            program,
            "serve",
            "s3",
            "--addr",
            address,
            "--dir-perms",
            "0700",
            "--file-perms",
            "0600",
            str(self.folder),
        ]

    def environment(self) -> dict[str, str]:
        """Return what the command needs beside it; no configuration of the user is read."""
        return {"RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"', "RCLONE_CONFIG": "/dev/null"}
