"""The floor of everything that starts a process: the Python interpreter itself."""

from __future__ import annotations

__all__ = ["Interpreter"]


class Interpreter:
    """``what="nothing"`` starts and ends, ``what="subprocess"`` also runs one shell command with
    the standard library."""

    def __init__(self, what: str = "nothing", module: str = "json") -> None:
        self._what = what
        self.module = module

    def command(self, folder: str) -> tuple[list[str], dict[str, str]]:
        del folder
        if self._what == "subprocess":
            return [
                "{python}",
                "-c",
                "import subprocess; subprocess.run(['echo', 'done'], check=True)",
            ], {}
        return ["{python}", "-c", "pass"], {}
