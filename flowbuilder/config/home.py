"""The user's own folder: configuration, signing key and trust list, never inside a project."""

from __future__ import annotations

import os
from pathlib import Path

from flowbuilder.errors import ConfigurationError

__all__ = ["flowbuilder_home", "prepare_home"]


def flowbuilder_home() -> Path:
    """Find the per-user folder; it need not exist.

    Returns
    -------
    Path
        ``FLOWBUILDER_HOME`` if it is set, else the platform's folder for user configuration. Always
        absolute.

    Raises
    ------
    ConfigurationError
        If ``FLOWBUILDER_HOME`` is a relative path, which would differ with the working directory.
    """
    given = os.environ.get("FLOWBUILDER_HOME", "")
    if given:
        path = Path(given).expanduser()
        if not path.is_absolute():
            raise ConfigurationError(
                f"expected an absolute path in FLOWBUILDER_HOME, found {given!r}",
                hint="set it to a full path such as ~/.config/flowbuilder",
            )
        return path
    from platformdirs import user_config_path

    return user_config_path("flowbuilder", appauthor=False)


def prepare_home() -> Path:
    """Create the per-user folder, readable by its owner only, and return it.

    Raises
    ------
    ConfigurationError
        If it cannot be created.
    """
    home = flowbuilder_home()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"cannot create the user folder {str(home)!r}: {error.strerror or error}",
            hint="set FLOWBUILDER_HOME to a folder you can write",
        ) from error
    return home
