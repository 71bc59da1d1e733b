"""The two configuration files: the project's ``pyproject.toml`` and the user's ``config.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from flowbuilder.config.home import flowbuilder_home
from flowbuilder.errors import ConfigurationError

__all__ = ["FileTable", "read_project_table", "read_user_table"]

_MAX_BYTES = 4 * 2**20


class FileTable(msgspec.Struct, frozen=True):
    """Settings as one source gave them, unchecked.

    Parameters
    ----------
    source : str
        What to call it in messages.
    values : mapping of str to object
        Raw values by setting name.
    folder : Path or None
        Folder that relative paths in it refer to; None: the working directory.
    variable_prefix : str
        For environment variables, what stands before the upper-case name.
    """

    source: str
    values: Mapping[str, object]
    folder: Path | None = None
    variable_prefix: str = ""

    def source_of(self, name: str) -> str:
        """Say where a setting came from, for a message."""
        if self.variable_prefix:
            return f"environment variable {self.variable_prefix}{name.upper()}"
        return self.source


def read_project_table(start: Path) -> FileTable:
    """Read ``[tool.flowbuilder]`` of the nearest ``pyproject.toml``; empty if there is none."""
    place = start.resolve()
    for folder in (place, *place.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            return _read_table(file, ("tool", "flowbuilder"))
    return FileTable("", {})


def read_user_table() -> FileTable:
    """Read ``config.toml`` in the user folder; empty if there is none."""
    file = flowbuilder_home() / "config.toml"
    return _read_table(file, ()) if file.is_file() else FileTable("", {})


def _read_table(file: Path, path: tuple[str, ...]) -> FileTable:
    name = f"{file} [{'.'.join(path)}]" if path else str(file)
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror or error}") from error
    if len(content) > _MAX_BYTES:
        raise ConfigurationError(f"expected at most 4 MiB of settings in {file}")
    if path and path[-1].encode() not in content:
        return FileTable(name, {})  # most projects do not mention us: spare them the parser
    table: object = _parse(file, content)
    for key in path:
        table = table.get(key, {}) if isinstance(table, Mapping) else {}
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"expected a table in {name}, found {table!r}")
    return FileTable(name, {k.replace("-", "_"): v for k, v in table.items()}, folder=file.parent)


def _parse(file: Path, content: bytes) -> Mapping[str, object]:
    import tomllib

    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from error
