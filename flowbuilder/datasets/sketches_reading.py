"""The sketches of a version's files, which manifests leave out because readers never need them."""

from __future__ import annotations

from flowbuilder.datasets.catalogue import Catalogue
from flowbuilder.datasets.database import unseal
from flowbuilder.datasets.manifest import Manifest

__all__ = ["read_sketches"]


def read_sketches(catalogue: Catalogue, manifest: Manifest) -> dict[int, dict[str, bytes]]:
    """Read the sketches of a version's files, by file and column."""
    wanted = {file.file_id for file in manifest.files}
    sql = "SELECT file_id, sketches_crc32, sketches FROM files WHERE dataset_id = ?"
    with catalogue.database.reading() as connection:
        rows = [row for row in connection.execute(sql, (manifest.dataset_id,)) if row[0] in wanted]
    return {
        file_id: unseal(
            body, crc32, dict[str, bytes], f"sketches of file {file_id}", manifest.dataset_id
        )
        for file_id, crc32, body in rows
    }
