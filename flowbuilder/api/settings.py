"""Settings of this Python session, above the environment and below explicit arguments."""

from __future__ import annotations

from flowbuilder.api.container import forget_containers, session_settings

__all__ = ["configure"]


def configure(**settings: object) -> None:
    """Set defaults for this process, for example ``fb.configure(workers=4, durability="none")``.

    Parameters
    ----------
    **settings
        By name: ``data_dir``, ``workers``, ``durability``, ``policy``, ``executor``, ``pools`` and
        the limits. None takes one back.

    Raises
    ------
    ConfigurationError
        If a name or a value is wrong.

    Notes
    -----
    Engines that are running keep their settings until their runs end; later runs use the new ones.
    """
    from flowbuilder.config import load_settings

    merged = {**session_settings, **settings}
    load_settings(None, **merged)
    session_settings.clear()
    session_settings.update({name: value for name, value in merged.items() if value is not None})
    forget_containers()
