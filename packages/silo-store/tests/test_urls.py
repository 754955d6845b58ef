"""The URL of a store: read with care, and never repeated."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from servers import RedisServer, redis_binary
from silo_store import SessionStore, open_backend
from silo_store.backends.redis import RedisBackend
from silo_store.redact import redact
from silo_store.testing import SID

PLACE = "127.0.0.1:1/0"


@pytest.fixture(params=[open_backend, RedisBackend], ids=["open_backend", "RedisBackend"])
def make(request: pytest.FixtureRequest) -> Callable[[str], object]:
    made: Callable[[str], object] = request.param
    return made


def refused(make: Callable[[str], object], url: str, *secrets: str) -> str:
    """The URL is refused with an error that says nothing of it, nor does its cause."""
    with pytest.raises(ValueError) as caught:
        make(url)
    shown = "".join(traceback.format_exception(caught.value))
    for secret in secrets:
        assert secret not in shown
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


@pytest.mark.parametrize(
    "password",
    [
        "s3cr/et7",
        "s3cr?et7",
        "s3cr#et7",
        "/s3cret7",
        "?s3cret7",
        "#s3cret7",
        "1234/et7",
        "1234?et7",
        "1234?timeout=et7",
        "1234?prefix=et7",
        "1234#et7",
        "s3cr@et7/x",
        "s3cr[et7",
        "s3cr]et7",
        "s3cr et7",
        "s3cr\net7",
        "s3cr\u2100et7",
        "s3cr\u2100/et7",
    ],
)
@pytest.mark.parametrize("before", ["redis://:", "rediss://user:", "unix://:"])
def test_a_password_that_is_not_encoded_is_refused_and_not_repeated(
    make: Callable[[str], object], before: str, password: str
) -> None:
    place = "/run/redis.sock?db=0" if before.startswith("unix") else PLACE
    text = refused(make, f"{before}{password}@{place}", "s3cr", "et7", "1234")
    assert "%2F" in text
    assert "%3F" in text


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"redis://{PLACE}?timeout=SECRET", "timeout"),
        (f"redis://{PLACE}?lease=SECRET", "lease"),
        (f"redis://{PLACE}?db=SECRET", "db"),
        (f"redis://{PLACE}?db=-1", "db"),
        (f"redis://{PLACE}?health_check_interval=SECRET", "health_check_interval"),
        (f"redis://{PLACE}?socket_keepalive=SECRET", "socket_keepalive"),
        (f"redis://{PLACE}?tiemout=SECRET", "tiemout"),
        (f"redis://{PLACE}?lease=1&lease=SECRET", "lease"),
        (f"redis://{PLACE}?ssl_cert_reqs=SECRET", "rediss://"),
        ("sqlite:///a.db?timeout=SECRET", "timeout"),
        ("sqlite:///a.db?password=SECRET", "password"),
        ("sqlite://user:SECRET@host/a.db", "sqlite:///"),
        ("memory://user:SECRET@host", "memory://"),
        ("memory://?copy=SECRET", "memory://"),
        ("postgres://user:SECRET@[host", "memory://"),
        ("postgres://user:\u2100SECRET@host", "memory://"),
        ("redis://host:SECRET/0", "redis://"),
        ("redis://host:99999/SECRET", "redis://"),
        ("redis://host/SECRET", "redis://"),
        ("redis://127.0.0.1:1/0?port=SECRET", "redis://"),
        ("unix://run/redis.sock", "unix:///"),
        ("unix://", "unix:///"),
    ],
)
def test_what_an_option_cannot_be_is_told_by_its_name(url: str, name: str) -> None:
    if "port=" in url:
        url = url.replace("127.0.0.1:1", "127.0.0.1")
    assert name in refused(open_backend, url, "SECRET")


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("ssl_cert_reqs=CERT_REQUIRED", "none, optional or required"),
        ("ssl_cert_reqs=CERT_NONE", "none, optional or required"),
        ("ssl_cert_reqs=", "none, optional or required"),
        ("ssl_check_hostname=flase", "true or false"),
        ("ssl_min_version=TLSv1.2", "771"),
    ],
)
def test_tls_words_of_others_are_refused_with_the_words_that_are_known(
    make: Callable[[str], object], option: str, values: str
) -> None:
    text = refused(make, f"rediss://{PLACE}?{option}")
    assert option.partition("=")[0] in text
    assert values in text


def test_tls_words_that_redis_py_knows_are_taken() -> None:
    words = "ssl_cert_reqs=optional&ssl_check_hostname=False"
    backend = RedisBackend.from_url(f"rediss://:{quote('p/w', safe='')}@{PLACE}?{words}&timeout=3&lease=4&prefix=p")
    settings = backend._server._settings
    assert (settings["ssl_cert_reqs"], settings["ssl_check_hostname"]) == ("optional", False)
    assert (settings["host"], settings["port"], settings["db"]) == ("127.0.0.1", 1, 0)
    assert (settings["password"], settings["socket_timeout"]) == ("p/w", 3.0)


def test_the_option_db_wins_over_the_path() -> None:
    assert RedisBackend.from_url(f"redis://{PLACE}?db=7")._server._settings["db"] == 7


@pytest.mark.parametrize("password", ["pa/ss?w#o@r:d%", "[\u00e9 x]", "&a=b+c"])
def test_a_password_of_any_characters_is_written_percent_encoded(tmp_path: Path, password: str) -> None:
    if redis_binary() is None:
        pytest.skip("there is no redis-server")
    with RedisServer(tmp_path / "redis", f'requirepass "{password}"') as server:
        store = SessionStore(backend=f"redis://:{quote(password, safe='')}@127.0.0.1:{server.port}/0")
        store.register_namespace("counter", lambda: {"value": 0})
        assert store.get(SID)["counter"] == {"value": 0}
        store.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory://?copy=1", "memory://"),
        ("sqlite:////var/lib/s.db?timeout=2", "sqlite:////var/lib/s.db"),
        ("redis://user:secret@host:6379/0?password=secret", "redis://host:6379/0"),
        ("rediss://:secret@[::1]:6380", "rediss://[::1]:6380"),
        ("unix:///run/redis.sock?db=0&password=secret", "unix:///run/redis.sock"),
        ("redis://user:secret/secret@host/0", "redis://"),
        ("redis://user:123/secret@host/0", "redis://"),
        ("redis://user:sec#ret@host/0", "redis://"),
        ("redis://user:sec?ret@host/0", "redis://"),
        ("redis://:123/secret@host", "redis://"),
        ("redis://:123", "redis://"),
        ("redis://user:sec[ret@host/0", "redis://"),
        ("redis://user:sec\u2100/ret@host/0", "redis://"),
        ("secret", ""),
        ("", ""),
    ],
)
def test_a_redacted_url_shows_no_password(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.fixture
def _no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if our own modules that import redis-py had not been imported yet."""
    for name in [name for name in sys.modules if name.startswith("silo_store.backends.redis")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("_no_redis")
@pytest.mark.parametrize(
    ("files", "said", "unsaid"),
    [
        ({}, "which is not installed: pip install redis", "--upgrade"),
        ({"__init__.py": "import cannot_be_found"}, "No module named 'cannot_be_found'", "pip install"),
        ({"__init__.py": ""}, "pip install --upgrade redis", "which is not installed"),
    ],
    ids=["missing", "without what it needs", "too old"],
)
def test_an_import_that_fails_is_told_by_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], said: str, unsaid: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "redis"]:
        monkeypatch.delitem(sys.modules, name)
    if files:
        folder = tmp_path / "redis"
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
    else:
        monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match="redis-py") as caught:
        open_backend(f"redis://{PLACE}")
    assert said in str(caught.value)
    assert unsaid not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("memory://", None),
        ("memory://?copy=1", None),
        ("redis://", "redis:localhost:6379 0 silo"),
        ("redis://LOCALHOST:6379/0", "redis:localhost:6379 0 silo"),
        ("rediss://user:s3cret7@db.example/3?prefix=shop&timeout=1", "redis:db.example:6379 3 shop"),
        ("redis://:s3cret7@[::1]:7000/1?db=2", "redis:::1:7000 2 silo"),
        ("unix:///run/redis.sock?db=4&password=s3cret7&prefix=a%20b", "unix:/run/redis.sock 4 a b"),
    ],
)
def test_an_origin_names_the_place_without_passwords(url: str, origin: str | None) -> None:
    assert open_backend(url).origin == origin


def test_each_path_to_a_file_has_one_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "folder" / "a.db")
    monkeypatch.chdir(tmp_path / "folder")
    paths = ("a.db", "../folder/a.db", "../link.db", str(tmp_path / "folder" / "a.db"))
    origins = {open_backend(f"sqlite:///{path}").origin for path in paths}
    assert origins == {f"sqlite:{os.path.normcase(os.path.realpath(tmp_path / 'folder' / 'a.db'))}"}
    assert open_backend("sqlite:///b.db").origin not in origins
