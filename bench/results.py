"""The benchmark's figures as JSON, with what they depend on."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from bench.database import SETTINGS
from runbook import __version__

FOLDER = Path(__file__).with_name("results")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the contestants were given."""

    rows: int
    distribution: str
    server_version: str
    mode: str
    settings: Mapping[str, str] = field(default_factory=lambda: dict(SETTINGS))
    """The server's, where they are not as initdb leaves them."""


def save(setup: Setup, figures: Mapping[str, Any], misses: list[str]) -> None:
    """Write a file into `bench/results`, and say where."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    content = {
        "at": moment,
        "setup": asdict(setup),
        "versions": {
            "runbook": __version__,
            "python": platform.python_version(),
            "psycopg": psycopg.__version__,
        },
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
        },
        "misses": misses,
        **figures,
    }
    FOLDER.mkdir(exist_ok=True)
    major = setup.server_version.partition(".")[0]
    path = FOLDER / f"{moment}-pg{major}-{setup.rows}-{setup.mode}.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"kept in {path.relative_to(FOLDER.parents[1])}")
