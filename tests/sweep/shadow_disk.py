"""What a power failure leaves: a model of which bytes and names are on disk, beside the real files.

A file's content is on disk up to its last fsync; a name is, once its folder was synced. What came
later may be there or not: none of it (`strict`), or some of it, names in the order they were made,
writes in any, each whole or cut at a 512-byte boundary.
"""

from __future__ import annotations

import os
from pathlib import Path

SECTOR = 512


class Inode:
    """A file: what is on disk, and what was done to it since."""

    def __init__(self):
        self.durable = bytearray()
        self.pending = []

    def write(self, offset, data):
        self.pending.append((offset, bytes(data)))

    def truncate(self, size):
        self.pending.append((size, None))

    def sync(self):
        for change in self.pending:
            _apply(self.durable, *change)
        self.pending.clear()

    def forget_pending(self):
        """A failed fsync: the kernel takes the pages for clean and never writes them."""
        self.pending.clear()

    def after(self, rng):
        """The content after a power failure; ``rng`` None keeps nothing that was not synced."""
        content = bytearray(self.durable)
        if rng is not None:
            for offset, data in self.pending:
                fate = rng.random()
                if fate < 0.4:
                    continue
                if fate < 0.7 and data:
                    cut = rng.randrange(0, len(data) + 1)
                    _apply(content, offset, data[: max(0, cut - (offset + cut) % SECTOR)])
                else:
                    _apply(content, offset, data)
        return bytes(content)


def _apply(content, offset, data):
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset + len(data) - len(content))))
    content[offset : offset + len(data)] = data


class ShadowDisk:
    """Names and files below one folder, on disk and as the process sees them."""

    def __init__(self, root):
        self.root = os.fspath(root)
        self.names = {}
        self.durable_names = {}
        self.changes = {}

    def has(self, path):
        return self._of(path) in self.names

    def inode(self, path):
        return self.names[self._of(path)]

    def create(self, path):
        name = self._of(path)
        inode = self.names[name] = Inode()
        self._change(name, lambda names: names.__setitem__(name, inode))
        return inode

    def rename(self, source, target):
        old, new = self._of(source), self._of(target)
        inode = self.names[new] = self.names.pop(old)

        def change(names):
            names.pop(old, None)
            names[new] = inode

        self._change(new, change)

    def unlink(self, path):
        name = self._of(path)
        if self.names.pop(name, None) is not None:
            self._change(name, lambda names: names.pop(name, None))

    def remove_tree(self, folder):
        below = self._of(folder) + os.sep
        for name in [name for name in self.names if name.startswith(below)]:
            self.unlink(Path(self.root, name))

    def sync_folder(self, folder):
        for change in self.changes.pop(str(Path(self._of(folder))), ()):
            change(self.durable_names)

    def fail(self, target, rng=None):
        """Write what a power failure leaves to another folder."""
        names = dict(self.durable_names)
        if rng is not None:
            for changes in self.changes.values():
                for change in changes[: rng.randrange(0, len(changes) + 1)]:
                    change(names)
        for name, inode in names.items():
            path = Path(target, name)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(inode.after(rng))
            path.chmod(0o600)

    def _change(self, name, change):
        self.changes.setdefault(str(Path(name).parent), []).append(change)

    def _of(self, path):
        return os.path.relpath(os.fspath(path), self.root)
