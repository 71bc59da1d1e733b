"""The settings of a session: argument > environment > project > user > default."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

from flowbuilder.config.files import FileTable, read_project_table, read_user_table
from flowbuilder.config.urls import StoreUrl, read_artifacts_url, read_journal_url
from flowbuilder.config.values import (
    choice_reader,
    parse_size,
    read_count,
    read_duration,
    read_path,
    read_pools,
)
from flowbuilder.errors import ConfigurationError
from flowbuilder.vocabulary import Durability, ExecutorKind

__all__ = ["SETTING_NAMES", "Policy", "Settings", "load_settings"]

MIB: Final = 2**20
GIB: Final = 2**30


class Policy(StrEnum):
    """What workflows may reach: ``restricted`` forbids private addresses and outside files."""

    LOCAL = "local"
    RESTRICTED = "restricted"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a user can configure. ``sources`` says where each value came from.

    Parameters
    ----------
    data_dir : Path or None
        Store directory; None leaves it to `find_data_dir`.
    journal : StoreUrl or None
        Server that keeps the journal (``postgresql://...``); None means a file in ``data_dir``.
    artifacts : StoreUrl or None
        Where outputs are kept (``s3://bucket/prefix``, ``file:///folder``); None means
        ``data_dir``.
    workers : int or None
        Threads that run tasks; None means what the machine allows.
    durability : Durability or None
        Overrides what workflows ask for; None leaves it to them.
    policy : Policy
        What workflows may reach.
    executor : ExecutorKind
        Where tasks without ``executor:`` run.
    pools : mapping of str to int
        Units of each named pool.
    memory_limit : int or None
        Bytes that outputs and queries of this process may take in memory before they use files;
        None means three quarters of what the machine allows.
    max_artifact_bytes : int
        Largest single output written to disk; larger ones are volatile.
    max_store_bytes : int
        Size all stored outputs may reach before ``persist: auto`` stops writing.
    max_cache_bytes : int
        Size kept outputs of cached tasks may reach before the cheapest to compute again go.
    max_log_bytes : int
        Captured output kept per attempt; the rest is counted and dropped.
    flush_interval_s : float
        Longest time a recorded fact stays in memory only, apart from the commit itself.
    sources : mapping of str to str
        Setting -> ``argument``, a variable's name, a file, or ``default``.
    """

    data_dir: Path | None = None
    journal: StoreUrl | None = None
    artifacts: StoreUrl | None = None
    workers: int | None = None
    durability: Durability | None = None
    policy: Policy = Policy.LOCAL
    executor: ExecutorKind = ExecutorKind.AUTO
    pools: Mapping[str, int] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    memory_limit: int | None = None
    max_artifact_bytes: int = 4 * GIB
    max_store_bytes: int = 64 * GIB
    max_cache_bytes: int = 8 * GIB
    max_log_bytes: int = MIB
    flush_interval_s: float = 0.005
    sources: Mapping[str, str] = msgspec.field(default_factory=lambda: MappingProxyType({}))


_READERS: Final[Mapping[str, Callable[[object], object]]] = {
    "data_dir": read_path,
    "journal": read_journal_url,
    "artifacts": read_artifacts_url,
    "workers": read_count,
    "durability": choice_reader(Durability),
    "policy": choice_reader(Policy),
    "executor": choice_reader(ExecutorKind),
    "pools": read_pools,
    "memory_limit": parse_size,
    "max_artifact_bytes": parse_size,
    "max_store_bytes": parse_size,
    "max_cache_bytes": parse_size,
    "max_log_bytes": parse_size,
    "flush_interval_s": read_duration,
}
SETTING_NAMES: Final[tuple[str, ...]] = tuple(_READERS)
"""Names of all settings; the variable of ``workers`` is ``FLOWBUILDER_WORKERS``."""

_OTHER_VARIABLES = frozenset({"FLOWBUILDER_ENCRYPTION_KEY", "FLOWBUILDER_HOME"})


def load_settings(start: Path | None = None, **arguments: object) -> Settings:
    """Read the settings that hold for a place.

    Parameters
    ----------
    start : Path, optional
        A workflow file or folder; the nearest ``pyproject.toml`` at or above it is the project.
        Default: the working directory.
    **arguments : object
        Explicit values by setting name; None means not given.

    Returns
    -------
    Settings
        Checked values.

    Raises
    ------
    ConfigurationError
        At the first value or name that is wrong; the message says where it stands.
    """
    place = (start if start is not None else Path.cwd()).expanduser()
    layers = (
        FileTable("argument", {k: v for k, v in arguments.items() if v is not None}),
        _read_variables(os.environ),
        read_project_table(place),
        read_user_table(),
    )
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for layer in layers:
        for name, given in layer.values.items():
            read = _READERS.get(name) or _reject_name(name, layer)
            if name not in values:
                values[name] = _read(name, read, given, layer)
                sources[name] = layer.source_of(name)
    for name in Settings.__struct_fields__:
        sources.setdefault(name, "default")
    del sources["sources"]
    return Settings(**values, sources=MappingProxyType(sources))


def _read_variables(environment: Mapping[str, str]) -> FileTable:
    # Variables of other programs may begin with our prefix (an image's FLOWBUILDER_VERSION):
    # unknown ones are only errors when they are nearly one of ours.
    found: dict[str, object] = {}
    for variable, text in environment.items():
        if not variable.startswith("FLOWBUILDER_") or variable in _OTHER_VARIABLES or not text:
            continue
        name = variable.removeprefix("FLOWBUILDER_").lower()
        if name in _READERS or _near(name, 0.8):
            found[name] = text
    return FileTable("environment", found, variable_prefix="FLOWBUILDER_")


def _near(name: str, cutoff: float) -> list[str]:
    from difflib import get_close_matches

    return get_close_matches(name, _READERS, n=1, cutoff=cutoff)


def _reject_name(name: str, layer: FileTable) -> Callable[[object], object]:
    near = _near(name, 0.6)
    hint = f"did you mean {near[0]!r}?" if near else "known settings: " + ", ".join(_READERS)
    raise ConfigurationError(f"unknown setting {name!r} in {layer.source_of(name)}", hint=hint)


def _read(name: str, read: Callable[[object], object], given: object, layer: FileTable) -> object:
    try:
        value = read(given)
    except ValueError as error:
        raise ConfigurationError(f"{layer.source_of(name)}: {name}: {error}") from error
    if isinstance(value, Path) and layer.folder is not None and not value.is_absolute():
        return layer.folder / value  # a path in a file is relative to that file
    return value
