"""A Prisma folder: the schema's files, and the migrations in their order."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from runbook.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One migration of the folder."""

    name: str
    """The folder's name: a timestamp, then what it does."""
    content: bytes

    @property
    def checksums(self) -> tuple[str, ...]:
        """The SHA-256 that Prisma may have noted: of the file as it is, or with the line ends of
        the other kind of system (Git changes them), which Prisma takes for the same."""
        unix = self.content.replace(b"\r\n", b"\n")
        windows = unix.replace(b"\n", b"\r\n")
        texts = dict.fromkeys((self.content, unix, windows))
        return tuple(hashlib.sha256(text).hexdigest() for text in texts)

    @property
    def checksum(self) -> str:
        """The SHA-256 of the file as it is."""
        return self.checksums[0]


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What the folder holds."""

    path: Path
    schemas: tuple[Path, ...]
    """The schema's files: `schema.prisma`, or all that are there."""
    migrations: tuple[Migration, ...]
    """In the order in which Prisma runs them: by name."""

    @property
    def migrations_path(self) -> Path:
        """The folder of the migrations."""
        return self.path / "migrations"


def read_folder(path: Path) -> Folder:
    """Read the folder. Raises `UsageError` where it is none of Prisma's, or cannot be read."""
    try:
        schemas = tuple(
            sorted(
                file
                for file in path.rglob("*.prisma")
                if not {"migrations", "node_modules"} & set(file.relative_to(path).parts)
            )
        )
        migrations = tuple(
            Migration(name=file.parent.name, content=file.read_bytes())
            for file in sorted((path / "migrations").glob("*/migration.sql"))
        )
    except OSError as error:
        raise UsageError(
            f"The Prisma folder {path} cannot be read: {error.strerror}.",
            "Give the folder that holds schema.prisma with --prisma-dir.",
        ) from error
    if not schemas:
        raise UsageError(
            f"{path} is no Prisma folder: it holds no .prisma file.",
            "Give the folder that holds schema.prisma with --prisma-dir.",
        )
    return Folder(path=path, schemas=schemas, migrations=migrations)
