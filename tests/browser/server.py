"""The real app in a process of its own, as an operator starts it."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboard.config import REPOSITORY

_START_WITHIN = 60.0
_END_WITHIN = 15.0


@dataclass(frozen=True)
class Server:
    """A running app: its address, the history it writes and what it says."""

    url: str
    database: Path
    log: Path

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What the history holds now, read past the app."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return connection.execute(query, values).fetchall()

    def newest_run(self) -> tuple[str, str, int]:
        """Public id, status and number of tokens of the run that was asked for last."""
        public_id, status, tokens = self.rows(
            "SELECT public_id, status, output_tokens FROM run ORDER BY id DESC LIMIT 1"
        )[0]
        return str(public_id), str(status), int(tokens)


@contextmanager
def served(folder: Path, log_name: str, script: str = "streamlit_app.py") -> Iterator[Server]:
    """Start the app, or another script of the repository, on the history in ``folder`` and end it afterwards."""
    port = _free_port()
    server = Server(f"http://localhost:{port}", folder / "history.db", folder / log_name)
    given = {"DATABASE_URL": f"sqlite:///{server.database}", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.headless", "true"]
    command += ["--server.address", "localhost", "--server.port", str(port), "--server.fileWatcherType", "none"]
    with (
        server.log.open("w") as log,
        subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | given, stdout=log, stderr=log) as process,
    ):
        try:
            _wait_until_healthy(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(_END_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(server: Server, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"The app did not start: {server.log.read_text()}")
