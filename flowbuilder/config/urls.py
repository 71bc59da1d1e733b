"""URLs of stores on other machines: read, checked, and shown without what is secret in them."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["StoreUrl", "read_artifacts_url", "read_journal_url"]

_MAX_CHARS: Final = 4096
_HIDDEN: Final = "***"
_PASSWORD: Final = re.compile(r"(?<=://)([^/?#@]*?):[^/?#]*(?=@)")
_SECRET_OPTION: Final = re.compile(
    r"(?i)(?<=[?&])([^=&#]*(?:password|passwd|secret|token|key|sig)[^=&#]*)=[^&#]*"
)
_ARTIFACT_SCHEMES: Final = (
    *("file", "s3", "s3a", "gs"),
    *("az", "adl", "azure", "abfs", "abfss"),
)
_JOURNAL_SCHEMES: Final = ("postgresql", "postgres")


class StoreUrl:
    """A URL that is shown without its password. Compared by all of it.

    Parameters
    ----------
    text : str
        The URL; `text` is the only way back to it.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def scheme(self) -> str:
        """What stands before ``://``, in lower case."""
        return self.text.partition("://")[0].lower()

    def __str__(self) -> str:
        hidden = _PASSWORD.sub(rf"\1:{_HIDDEN}", self.text)
        return _SECRET_OPTION.sub(rf"\1={_HIDDEN}", hidden)

    def __repr__(self) -> str:
        return f"StoreUrl({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoreUrl) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def read_journal_url(value: object) -> StoreUrl:
    """Read where the journal is: ``postgresql://user@host/database``."""
    return _read_url(value, _JOURNAL_SCHEMES, "postgresql://user@host/database")


def read_artifacts_url(value: object) -> StoreUrl:
    """Read where outputs are kept: ``s3://bucket/prefix``, ``file:///folder`` and the like."""
    from urllib.parse import urlsplit

    url = _read_url(value, _ARTIFACT_SCHEMES, "s3://bucket/prefix or file:///folder")
    parts = urlsplit(url.text)
    if "@" in parts.netloc and not parts.scheme.startswith("abfs"):
        raise ValueError(
            f"expected no credentials in a URL, found some in {url};"
            " they come from the environment (AWS_ACCESS_KEY_ID and the like)"
        )
    if parts.query or parts.fragment:
        raise ValueError(f"expected a URL without options, found {url}")
    if parts.scheme == "file" and (parts.netloc not in {"", "localhost"} or len(parts.path) < 2):
        raise ValueError(f"expected a folder such as file:///srv/outputs, found {url}")
    if parts.scheme != "file" and not parts.netloc:
        raise ValueError(f"expected the name of a bucket after '://', found {url}")
    return url


def _read_url(value: object, schemes: tuple[str, ...], example: str) -> StoreUrl:
    if isinstance(value, StoreUrl):
        return value
    # What is no URL may still hold a password, so it is not shown.
    if not isinstance(value, str) or "://" not in value or len(value) > _MAX_CHARS:
        raise ValueError(f"expected a URL such as {example}")
    url = StoreUrl(value.strip())
    if url.scheme not in schemes:
        raise ValueError(f"expected a URL such as {example}, found one of {url.scheme[:32]!r}")
    if any(ord(character) < 32 for character in url.text):
        raise ValueError(f"expected a URL without control characters, found {str(url)!r}")
    return url
