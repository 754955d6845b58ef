"""The URL of a `RedisTaskStore` is checked, and never repeated in an error."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest
import redis
import redis.asyncio
from celery import Celery
from rq import Queue
from servers import RedisServer, redis_binary
from silo_tasks.runners.celery import CeleryRunner
from silo_tasks.runners.rq import RQRunner
from silo_tasks.stores.redis import RedisTaskStore

pytestmark = pytest.mark.slow

PLACE = "127.0.0.1:1/0"


def refused(make: Callable[[], object], *secrets: str) -> str:
    with pytest.raises(ValueError) as caught:
        make()
    for secret in secrets:
        assert secret not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


@pytest.mark.parametrize(
    "password",
    [
        "s3cr/et7",
        "s3cr?et7",
        "s3cr#et7",
        "1234/et7",
        "1234?et7",
        "1234?db=et7",
        "s3cr@et7/x",
        "s3cr[et7",
        "s3cr et7",
        "s3cr\u2100et7",
    ],
)
def test_a_password_that_is_not_encoded_is_refused_and_not_repeated(password: str) -> None:
    for before in ("redis://:", "rediss://user:"):
        text = refused(lambda before=before: RedisTaskStore(f"{before}{password}@{PLACE}"), "s3cr", "et7")  # type: ignore[misc]
        assert "%2F" in text
    refused(lambda: RedisTaskStore(f"unix://:{password}@/run/redis.sock"), "s3cr", "et7")


@pytest.mark.parametrize("password", ["1234/et7", "1234?et7", "1234?db=et7"])
def test_a_celery_broker_with_an_unencoded_password_is_refused(password: str) -> None:
    app = Celery("urls", broker=f"redis://:{password}@{PLACE}", set_as_current=False)
    refused(lambda: CeleryRunner(app), "1234", "et7")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"rediss://{PLACE}?ssl_cert_reqs=CERT_REQUIRED", "ssl_cert_reqs .* none, optional or required"),
        (f"rediss://{PLACE}?ssl_check_hostname=SECRET", "ssl_check_hostname .* true or false"),
        (f"rediss://{PLACE}?ssl_min_version=TLSv1.2", "ssl_min_version .* 771"),
        (f"redis://{PLACE}?socket_timeout=SECRET", "socket_timeout .* seconds"),
        (f"redis://{PLACE}?db=SECRET", "db .* number"),
        (f"redis://{PLACE}?ssl_cert_reqs=none", "'ssl_cert_reqs'"),
        (f"redis://{PLACE}?tiemout=SECRET", "'tiemout'"),
        ("redis://127.0.0.1:SECRET/0", "scheme"),
        ("redis://127.0.0.1/SECRET", "scheme"),
        ("http://SECRET@127.0.0.1:1", "scheme"),
    ],
)
def test_what_redis_py_cannot_use_is_refused_when_the_store_is_made(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RedisTaskStore(url)
    refused(lambda: RedisTaskStore(url), "SECRET", "TLSv1.2", "CERT_REQUIRED")


@pytest.mark.parametrize("option", ["ssl_cert_reqs=CERT_REQUIRED", "tiemout=1"])
def test_a_queue_whose_connection_cannot_be_made_is_refused_when_the_runner_is_made(option: str) -> None:
    client = redis.Redis.from_url(f"rediss://{PLACE}?{option}")
    assert option.partition("=")[0] in refused(lambda: RQRunner(Queue(connection=client)), "CERT_REQUIRED")
    assert option.partition("=")[0] in refused(lambda: RedisTaskStore(client), "CERT_REQUIRED")
    client.close()


def test_options_of_redis_py_are_accepted() -> None:
    store = RedisTaskStore(
        f"rediss://user:p%2Fw@{PLACE}?ssl_cert_reqs=optional&ssl_check_hostname=no&db=3&socket_timeout=0.5"
    )
    settings = store._client.connection_pool.connection_kwargs
    assert (settings["username"], settings["password"], settings["db"]) == ("user", "p/w", 3)
    assert (settings["ssl_cert_reqs"], settings["socket_timeout"]) == ("optional", 0.5)
    for url in ("redis://", "redis://[::1]:6379", "unix:///run/a@b.sock?db=1", f"redis://{PLACE}/"):
        RedisTaskStore(url)


def test_a_password_of_any_characters_is_written_percent_encoded(tmp_path: Path) -> None:
    if redis_binary() is None:
        pytest.skip("there is no redis-server")
    password = "pa/ss?w#o@r:d%[ ]"
    with RedisServer(tmp_path / "redis", f'requirepass "{password}"') as server:
        store = RedisTaskStore(f"redis://:{quote(password, safe='')}@127.0.0.1:{server.port}/0")
        assert store.read("", "task") is None
        store._client.close()


def test_a_runner_and_a_store_of_wrong_parts_are_refused_without_repeating_them() -> None:
    url = "redis://:secret@localhost/0"
    app = Celery("unused", broker=url)
    makers: list[tuple[Callable[[], object], str]] = [
        (lambda: RQRunner(cast("Any", "counts")), "queue must be a queue of RQ such as Queue(name, connection=...)"),
        (lambda: CeleryRunner(cast("Any", "app")), "app must be an application of Celery"),
        (lambda: CeleryRunner(app, store=cast("Any", url)), "store must be a task store"),
        (lambda: RedisTaskStore(cast("Any", 5)), "client must be a synchronous client of redis-py, or a URL"),
        (lambda: RedisTaskStore(cast("Any", redis.asyncio.Redis.from_url(url))), "a synchronous client"),
    ]
    for make, words in makers:
        with pytest.raises(TypeError, match=re.escape(words)) as caught:
            make()
        assert "secret" not in str(caught.value)
