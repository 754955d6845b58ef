"""A broker behind TLS: the store beside it is reached as the broker is."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from engines import jobs
from engines.harness import CeleryEngine, Worker
from servers import HOST, RedisServer, until
from silo_tasks import BackgroundTask, MemoryTaskStore
from silo_tasks.runners.celery import CeleryRunner
from silo_tasks.stores.redis import RedisTaskStore

pytestmark = pytest.mark.slow

WAIT = 30.0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of its own authority, and its private key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=silo", "-addext", f"subjectAltName=IP:{HOST}"]
    command += ["-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    with path.open("a") as file:
        file.write(Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def port(own_server: RedisServer, certificate: Path, tmp_path: Path) -> Iterator[int]:
    """The port of a Redis behind TLS."""
    command = ["-m", "engines.tls_front", str(own_server.port), str(certificate)]
    with Worker(command, "listens on", folder=tmp_path / "front") as front:
        until(lambda: front.log().endswith("\n"), "it does not say where")
        yield int(front.log().split()[-1])


def make_app(url: str, **conf: Any) -> Celery:
    app = Celery("tls", broker=url, set_as_current=False)
    app.conf.update(conf)
    return app


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_broker_use_ssl(port: int, certificate: Path, tmp_path: Path, scheme: str) -> None:
    """Process and worker reach records and queue."""
    settings = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": f"{certificate}.crt"}
    app = make_app(f"{scheme}://{HOST}:{port}/0", broker_use_ssl=settings)
    engine = CeleryEngine(f"{scheme}://{HOST}:{port}/0")
    task = BackgroundTask("add", runner=CeleryRunner(app))
    task.start(jobs.add, 1, 2)
    with engine.start_worker(tmp_path / "worker", env={"ENGINE_CA": f"{certificate}.crt"}):
        assert task.result(WAIT) == 3
    app.close()


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_words_of_tls_in_the_url(port: int, certificate: Path, tmp_path: Path, scheme: str) -> None:
    """They are kombu's."""
    words = f"ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={certificate}.crt"
    engine = CeleryEngine(f"{scheme}://{HOST}:{port}/0?{words}")
    task = engine.task()
    task.start(jobs.add, 1, 2)
    with engine.start_worker(tmp_path / "worker"):
        assert task.result(WAIT) == 3
    engine.close()


def test_a_certificate_that_is_not_trusted(port: int) -> None:
    """What the broker's settings ask for is looked at."""
    app = make_app(f"rediss://{HOST}:{port}/0", broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED})
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        CeleryRunner(app).store.read("", "task")
    app.close()


@pytest.mark.parametrize(
    "settings",
    [True, {"cert_reqs": ssl.CERT_REQUIRED}, {"ssl_cert_reqs": "CERT_REQUIRED"}, {"keyfile": "/key.pem"}],
    ids=str,
)
def test_settings_that_a_redis_broker_cannot_use(settings: object) -> None:
    """Celery itself finds that out when it connects, or goes without TLS."""
    app = make_app(f"redis://:secret@{HOST}:1/0", broker_use_ssl=settings)
    with pytest.raises(ValueError, match=r"broker_use_ssl.*ssl_cert_reqs.*store=") as caught:
        CeleryRunner(app)
    assert "secret" not in str(caught.value)
    assert CeleryRunner(app, store=MemoryTaskStore()).store
    app.close()


def test_a_word_that_kombu_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"ssl_cert_reqs.*CERT_REQUIRED") as caught:
        CeleryRunner(make_app(f"rediss://:secret@{HOST}:1/0?ssl_cert_reqs=bogus"))
    assert "secret" not in str(caught.value)


def test_a_broker_of_which_no_certificate_is_asked() -> None:
    """As kombu does it."""
    store = CeleryRunner(make_app(f"rediss://{HOST}:1/0")).store
    assert isinstance(store, RedisTaskStore)
    assert store._client.connection_pool.connection_kwargs["ssl_cert_reqs"] is ssl.CERT_NONE


def test_settings_become_those_of_the_store() -> None:
    settings = {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_certfile": "/cert.pem", "ssl_keyfile": "/key.pem"}
    store = CeleryRunner(make_app(f"redis://:secret@{HOST}:1/3", broker_use_ssl=settings)).store
    assert isinstance(store, RedisTaskStore)
    options = store._client.connection_pool.connection_kwargs
    assert {name: options[name] for name in settings} == settings
    assert (options["password"], options["db"], options["socket_timeout"]) == ("secret", 3, 5.0)
