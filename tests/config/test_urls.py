"""URLs of stores: what is refused, and that no password is shown."""

from __future__ import annotations

import pytest

from flowbuilder.config import StoreUrl, load_settings
from flowbuilder.config.urls import read_artifacts_url, read_journal_url
from flowbuilder.errors import ConfigurationError

SECRETS = [
    "postgresql://user:hunter2@host/db",
    "postgresql://user:hunter2@host:5432,other:1/db?sslmode=require",
    "postgres://:hunter2@host/db",
    "postgresql://user@host/db?password=hunter2&x=1",
    "postgresql://user@host/db?sslmode=require&sslpassword=hunter2",
    "postgresql://user:hunter2:with:colons@host/db",
]


@pytest.mark.parametrize("text", SECRETS)
def test_passwords_are_never_shown(text):
    url = read_journal_url(text)

    assert url.text == text
    assert "hunter2" not in f"{url} {url!r} {[url]}"
    assert "host" in str(url)


@pytest.mark.parametrize("text", [*SECRETS, "hunter2", "mysql://user:hunter2@host/db"])
def test_settings_and_their_errors_show_no_password(tmp_path, monkeypatch, text):
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path))
    monkeypatch.setenv("FLOWBUILDER_JOURNAL", text)
    try:
        shown = repr(load_settings(tmp_path))
    except ConfigurationError as error:
        shown = f"{error} {error!r} {error.__cause__!r}"

    assert "hunter2" not in shown


def test_urls_are_compared_by_all_of_them():
    one = StoreUrl("postgresql://u:a@h/d")

    assert one == StoreUrl("postgresql://u:a@h/d")
    assert one != StoreUrl("postgresql://u:b@h/d")
    assert len({one, StoreUrl("postgresql://u:b@h/d")}) == 2


@pytest.mark.parametrize(
    "text", ["s3://bucket", "s3://bucket/a/b", "gs://b/x", "abfss://c@account/x", "file:///srv/o"]
)
def test_places_of_outputs_are_read(text):
    assert read_artifacts_url(f" {text} ").text == text


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("", "expected a URL"),
        (3, "expected a URL"),
        ("bucket/prefix", "expected a URL"),
        ("http://host/x", "found one of 'http'"),
        ("s3:///prefix", "name of a bucket"),
        ("s3://key:secret@bucket/x", "no credentials"),
        ("s3://bucket/x?versionId=1", "without options"),
        ("file://host/x", "expected a folder"),
        ("file:///", "expected a folder"),
        ("s3://bucket/\n", None),
        ("s3://buc\0ket/", "control characters"),
    ],
)
def test_what_is_no_place_of_outputs_is_refused(value, named):
    if named is None:
        assert read_artifacts_url(value).text == value.strip()
        return
    with pytest.raises(ValueError, match=named):
        read_artifacts_url(value)


@pytest.mark.parametrize("value", ["journal.db", "sqlite:///x", None, "s3://bucket/x"])
def test_what_is_no_server_is_refused(value):
    with pytest.raises(ValueError, match=r"postgresql://user@host/database"):
        read_journal_url(value)
