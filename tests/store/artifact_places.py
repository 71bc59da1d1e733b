"""Where artifact stores of each kind keep their files, so that one set of tests holds for all."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from flowbuilder.store.artifact_opening import open_artifacts
from flowbuilder.store.ports import ArtifactStore


class ArtifactPlace(Protocol):
    """One artifact store of one kind."""

    def open(self, **limits: int) -> ArtifactStore: ...

    def read(self, path: str) -> bytes: ...

    def write(self, path: str, content: bytes | None) -> None:
        """Change a stored file behind the store's back; None removes it."""
        ...

    def paths(self) -> set[str]: ...


class LocalPlace:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, **limits):
        return open_artifacts("", self.folder, **limits)

    def read(self, path):
        return (self.folder / path).read_bytes()

    def write(self, path, content):
        if content is None:
            (self.folder / path).unlink()
        else:
            (self.folder / path).write_bytes(content)

    def paths(self):
        found = self.folder.rglob("*")
        return {p.relative_to(self.folder).as_posix() for p in found if p.is_file()}


class FolderPlace(LocalPlace):
    """A ``file://`` URL: outputs in a folder apart from the store directory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "outputs with space")
        self._data_dir = folder / "store"

    def open(self, **limits):
        return open_artifacts(self.folder.as_uri(), self._data_dir, **limits)


class ObjectPlace:
    """A prefix of a bucket. Each opening has copies of its own, as another machine would."""

    def __init__(self, url: str, folder: Path) -> None:
        from obstore.store import from_url

        self.url = url
        self._store = from_url(url, client_options={"allow_http": True})
        self._folder = folder
        self._count = 0

    @property
    def newest_data_dir(self) -> Path:
        return self._folder / f"machine-{self._count}"

    def open(self, **limits):
        self._count += 1
        return open_artifacts(self.url, self.newest_data_dir, **limits)

    def read(self, path):
        import obstore

        return obstore.get(self._store, path).bytes().to_bytes()

    def write(self, path, content):
        import obstore

        if content is None:
            obstore.delete(self._store, path)
        else:
            obstore.put(self._store, path, content)

    def paths(self):
        import obstore

        return {meta["path"] for page in obstore.list(self._store) for meta in page}
