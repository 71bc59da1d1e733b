"""The file formats of ``read`` and ``write``: how a name tells them, and what each is called."""

from __future__ import annotations

from enum import StrEnum

from flowbuilder.errors import FlowBuilderError

__all__ = ["TABLE_FORMATS", "FileFormat", "file_format", "known_suffix", "split_compression"]


class FileFormat(StrEnum):
    """What is in a file."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"
    ARROW = "arrow"
    TEXT = "text"
    BYTES = "bytes"


TABLE_FORMATS = frozenset({FileFormat.CSV, FileFormat.JSONL, FileFormat.PARQUET, FileFormat.ARROW})
"""Formats that always hold a table."""

_SUFFIXES = {
    **dict.fromkeys((".csv", ".tsv"), FileFormat.CSV),
    **dict.fromkeys((".json", ".geojson"), FileFormat.JSON),
    **dict.fromkeys((".jsonl", ".ndjson"), FileFormat.JSONL),
    **dict.fromkeys((".parquet", ".pq"), FileFormat.PARQUET),
    **dict.fromkeys((".arrow", ".ipc", ".feather"), FileFormat.ARROW),
    **dict.fromkeys(
        (".txt", ".md", ".html", ".htm", ".svg", ".xml", ".yaml", ".yml", ".log", ".sql"),
        FileFormat.TEXT,
    ),
}
_COMPRESSIONS = {".gz": "gzip", ".zip": "zip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz"}


def split_compression(name: str) -> tuple[str, str]:
    """Separate the compression from a file name.

    Parameters
    ----------
    name : str
        File name, such as ``flights.csv.zip``.

    Returns
    -------
    tuple of str
        Name without the compression's suffix, and ``gzip``, ``zip``, ``bz2``, ``zstd``, ``xz`` or
        ``""``.
    """
    stem, dot, suffix = name.rpartition(".")
    compression = _COMPRESSIONS.get(dot + suffix.lower(), "") if stem else ""
    return (stem, compression) if compression else (name, "")


def known_suffix(name: str) -> FileFormat | None:
    """Tell the format by a file name; None if the suffix says nothing."""
    stem = split_compression(name)[0]
    return _SUFFIXES.get("." + stem.rpartition(".")[2].lower()) if "." in stem else None


def file_format(name: str, asked: object) -> FileFormat:
    """Decide the format of a file.

    Parameters
    ----------
    name : str
        File name.
    asked : object
        The config's ``format``: a format, or ``auto`` to go by the name.

    Returns
    -------
    FileFormat
        The format.

    Raises
    ------
    FlowBuilderError
        If the name does not tell.
    """
    if asked not in (None, "auto"):
        return FileFormat(str(asked))
    found = known_suffix(name)
    if found is None:
        raise FlowBuilderError(
            f"cannot tell the format of {name!r} by its suffix",
            hint=f"set `format` to one of {', '.join(FileFormat)}",
        )
    return found
