"""What is kept, how long, how much of it, and what damage does."""

from __future__ import annotations

import os
import time

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowbuilder.cache.task_cache import CacheRequest, Flight, Hit, TaskCache
from flowbuilder.errors import StorageError
from tests.cache.fingerprints import fingerprint


def request(name="a", **fields):
    made = fingerprint(arguments={"name": name})
    return CacheRequest(task="work/task", fingerprint=made, **fields)


def keep(cache, name="a", value=1, cost_ns=1_000_000):
    flight = cache.begin(request(name))
    assert isinstance(flight, Flight)
    refusal = flight.store(value, cost_ns)
    flight.release()
    return refusal


def look(cache, name="a"):
    found = cache.begin(request(name))
    if isinstance(found, Flight):
        found.release()
        return None
    return found.value


@pytest.fixture
def open_cache(place):
    made = []

    def open_one(**fields):
        made.append(TaskCache(place / ".flowbuilder", **fields))
        return made[-1]

    yield open_one
    for each in made:
        each.close()


def image(value):
    """Types and content, the order of sets left out."""
    if isinstance(value, dict):
        return ("dict", *((key, image(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, *map(image, value))
    return (type(value).__name__, sorted(value) if isinstance(value, set) else value)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.sets(st.integers(), max_size=3)
    ),
    max_leaves=6,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(VALUES)
def test_values_come_back_equal_with_their_types(open_cache, value):
    cache = open_cache()
    cache.clear()
    assert keep(cache, value=value) == ""

    found = look(open_cache())
    assert found == value
    assert image(found) == image(value)


def test_two_caches_of_one_folder_share_entries_and_counts(open_cache):
    one, two = open_cache(), open_cache()
    keep(one, value="x")

    assert look(two) == "x"
    assert look(one) == "x"
    two.stats()
    stats = one.stats()
    assert (stats.hits, stats.misses, stats.stored, stats.entries) == (2, 1, 1, 1)


def test_room_is_made_by_dropping_what_is_cheap_for_its_size(open_cache):
    cache = open_cache(max_bytes=30_000)
    keep(cache, "cheap", "c" * 10_000, cost_ns=1_000)
    keep(cache, "dear", "d" * 10_000, cost_ns=10_000_000_000)
    keep(cache, "small", "s", cost_ns=1_000_000)
    keep(cache, "new", "n" * 15_000, cost_ns=1_000_000)

    assert look(cache, "cheap") is None
    assert look(cache, "dear") == "d" * 10_000
    assert look(cache, "small") == "s"
    assert look(cache, "new") == "n" * 15_000
    assert cache.stats().evicted == 1
    assert cache.stats().size_bytes <= 30_000


def test_what_is_used_stays_among_equals(open_cache):
    cache = open_cache(max_bytes=30_000)
    for name in "abc":
        keep(cache, name, name * 9_000)
    for name in "defgh":
        assert look(cache, "a") == "a" * 9_000
        keep(cache, name, name * 9_000)

    assert look(cache, "a") == "a" * 9_000
    assert look(cache, "b") is None


def test_files_go_with_their_entries(open_cache):
    cache = open_cache(max_bytes=50_000)
    for number in range(20):
        keep(cache, f"n{number}", f"{number}" * 9_000)

    files = [path for path in (cache.folder / "artifacts").rglob("*") if path.is_file()]
    assert len(files) == cache.stats().entries <= 5
    cache.clear()
    assert not list((cache.folder / "artifacts").rglob("*.*"))


def test_an_output_larger_than_the_cache_is_not_kept(open_cache):
    cache = open_cache(max_bytes=1_000)

    assert "too large" in keep(cache, value="x" * 10_000)
    assert cache.stats().entries == 0


@pytest.mark.parametrize("where", [0, 1, 2, 3])
def test_a_missing_or_damaged_file_is_a_miss(open_cache, where):
    cache = open_cache()
    keep(cache, value="x" * 10_000)
    (file,) = (path for path in (cache.folder / "artifacts").rglob("*") if path.is_file())
    data = bytearray(file.read_bytes())
    file.chmod(0o600)
    if where == 0:
        file.unlink()
    elif where == 1:
        file.write_bytes(data[:100])
    elif where == 2:
        data[5_000] ^= 4
        file.write_bytes(data)
    else:
        file.write_bytes(b"")

    assert look(cache) is None
    assert look(cache) is None
    assert cache.stats().damaged == 1
    keep(cache, value="y")
    assert look(cache) == "y"


def test_a_row_that_was_changed_is_a_miss(open_cache, place):
    cache = open_cache()
    keep(cache, value=1)
    connection = apsw.Connection(str(cache.folder / "index.sqlite"))
    connection.execute("update entries set inline = x'02'")
    connection.close()

    found = cache.begin(request())
    assert isinstance(found, Flight)
    assert found.why == "its kept output was damaged"
    found.release()


@pytest.mark.parametrize("damage", ["garbage", "truncated", "header", "removed"])
def test_a_damaged_index_is_made_anew(open_cache, damage):
    cache = open_cache()
    for number in range(50):
        keep(cache, f"n{number}", "v" * 500)
    cache.close()
    path = cache.folder / "index.sqlite"
    data = path.read_bytes()
    if damage == "garbage":
        path.write_bytes(os.urandom(5_000))
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "header":
        path.write_bytes(b"\0" * 100 + data[100:])
    else:
        path.unlink()

    again = open_cache()
    for number in range(50):
        assert look(again, f"n{number}") in (None, "v" * 500)
    keep(again, "after", "w")
    assert look(again, "after") == "w"


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=8))
def test_flipped_bytes_of_the_index_never_give_a_wrong_output(open_cache, flips):
    cache = open_cache()
    cache.clear()
    for number in range(20):
        keep(cache, f"n{number}", f"value {number}")
    cache.close()
    path = cache.folder / "index.sqlite"
    data = bytearray(path.read_bytes())
    for place, mask in flips:
        data[place % len(data)] ^= mask
    path.write_bytes(data)

    try:
        again = open_cache()
    except StorageError:
        path.unlink()
        return
    for number in range(20):
        assert look(again, f"n{number}") in (None, f"value {number}")
    again.close()
    path.unlink(missing_ok=True)


def test_a_pickle_of_another_user_is_a_miss(open_cache, monkeypatch, tmp_path):
    cache = open_cache()
    keep(cache, value={1, 2, 3})
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "another"))

    assert look(cache) is None


def test_what_a_crash_left_behind_is_swept(open_cache):
    cache = open_cache()
    keep(cache, value="x" * 10_000)
    orphan = cache.folder / "artifacts" / "orphan"
    orphan.mkdir()
    (orphan / "0-1-a.bin").write_bytes(b"x")
    stale = cache.folder / "locks" / "dead.lock"
    stale.write_bytes(b"")
    fresh = cache.folder / "artifacts" / "fresh"
    fresh.mkdir()
    old = time.time() - 7_200
    os.utime(orphan, (old, old))

    cache.sweep()

    assert not orphan.exists()
    assert not stale.exists()
    assert fresh.exists()
    assert look(cache) == "x" * 10_000


def test_a_place_that_cannot_be_written_is_said(place, monkeypatch):
    file = place / "a file"
    file.write_text("")

    with pytest.raises(StorageError, match="could not open the cache"):
        TaskCache(file)


def test_looking_and_explaining_change_nothing(open_cache):
    cache = open_cache()
    keep(cache, "a")
    assert cache.peek(request("a").fingerprint, None) is not None
    assert cache.explain_miss(request("b")) == "argument `name` changed 'a' -> 'b'"
    assert cache.stats().hits == 0
    assert isinstance(cache.begin(request("a")), Hit)
