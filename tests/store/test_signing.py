"""The signing key: private, whole, never replaced."""

from __future__ import annotations

import os
import threading

import pytest

from flowbuilder.errors import ConfigurationError, StorageError
from flowbuilder.store.signing import signing_key


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_key_is_made_once_and_stays(home):
    key = signing_key(create=True)

    assert len(key) == 32
    assert signing_key(create=True) == signing_key(create=False) == key
    assert [p.name for p in home.iterdir()] == ["signing.key"]


def test_missing_key_is_not_made_for_reading(home):
    with pytest.raises(StorageError, match="no signing key"):
        signing_key(create=False)
    assert not home.exists()


def test_threads_agree_on_one_key():
    keys = []
    threads = [
        threading.Thread(target=lambda: keys.append(signing_key(create=True))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(keys) == 8
    assert len(set(keys)) == 1


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
def test_key_others_can_read_is_refused(home):
    signing_key(create=True)
    (home / "signing.key").chmod(0o644)

    with pytest.raises(StorageError, match=r"open to other users.*chmod 600"):
        signing_key(create=False)


@pytest.mark.parametrize("content", [b"", b"short", b"zz" * 32, b"ab" * 33, b"\xff" * 64])
def test_damaged_key_is_refused(home, content):
    signing_key(create=True)
    (home / "signing.key").write_bytes(content)

    with pytest.raises(StorageError, match="damaged"):
        signing_key(create=True)


def test_home_that_cannot_be_made_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "file" / "home"))

    with pytest.raises(ConfigurationError, match="cannot create"):
        signing_key(create=True)
