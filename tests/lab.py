"""JupyterLab as `make lab` starts it, without a browser of its own."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).parents[1]
LAB = ROOT / ".venv-lab" / "bin" / "jupyter"


@contextmanager
def jupyterlab(notebooks: Path, scratch: Path, **environment: str) -> Iterator[str]:
    """Start it on a folder; yield its address, which ends with a slash."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"JUPYTER_CONFIG_DIR": f"{scratch}/config", "JUPYTER_DATA_DIR": f"{scratch}/data",
           "JUPYTER_RUNTIME_DIR": f"{scratch}/runtime", "HOME": str(scratch)}  # fmt: skip
    started = subprocess.Popen(
        [
            *(str(LAB), "lab", "--no-browser", "--allow-root", f"--notebook-dir={notebooks}"),
            *("--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"),
            *("--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"),
            "--LabApp.news_url=",
        ],
        env={**os.environ, **own, **environment},
        cwd=notebooks,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}/"
    try:
        until = time.monotonic() + 120
        while True:
            assert time.monotonic() < until, "JupyterLab does not answer"
            try:
                with urlopen(f"{address}api/status", timeout=5):
                    break
            except OSError:
                assert started.poll() is None, "JupyterLab ended by itself"
        yield address
    finally:
        started.terminate()
        started.wait(timeout=60)
