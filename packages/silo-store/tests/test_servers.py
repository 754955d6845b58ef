"""The servers and links that tests use do what they say."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from links import RoundTrips, SlowLink
from servers import RedisServer, listens, redis_binary, until

pytestmark = pytest.mark.slow

CRASH = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from servers import RedisServer
server = RedisServer(Path(sys.argv[2]))
print(server.port, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def client_of(url: str, timeout: float = 30.0) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=timeout, decode_responses=True)


@pytest.fixture
def client(own_redis: RedisServer) -> Iterator[redis.Redis]:
    with client_of(own_redis.url) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if redis_binary() is None:
        pytest.skip("there is no redis-server")
    return tmp_path / "server"


def test_a_server_answers_and_is_empty_for_each_test(redis_server: RedisServer, redis_url: str) -> None:
    with client_of(redis_url) as client:
        assert client.dbsize() == 0
        assert client.set("key", "value")
        assert client.info("server")["process_id"] == redis_server.pid
        redis_server.flush()
        assert client.dbsize() == 0


def test_valkey_answers(valkey_server: RedisServer, valkey_url: str) -> None:
    with client_of(valkey_url) as client:
        info = client.info("server")
        assert (info["process_id"], info["server_name"]) == (valkey_server.pid, "valkey")


def test_stop_leaves_no_process(folder: Path) -> None:
    with RedisServer(folder) as server:
        assert server.running
        server.stop()
        assert "ready to exit" in server.log()
    assert not server.running
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)
    assert not listens(server.port)
    server.stop()


@pytest.mark.parametrize("how", ["left", "killed before"])
def test_a_block_that_is_left_leaves_no_process(folder: Path, how: str) -> None:
    with RedisServer(folder) as server:
        if how == "killed before":
            server.kill()
    assert not server.running
    assert not listens(server.port)


def test_a_paused_server_lets_a_client_wait_and_then_goes_on(own_redis: RedisServer, client: redis.Redis) -> None:
    client.set("key", "value")
    own_redis.pause()
    with client_of(own_redis.url, timeout=0.05) as hasty, pytest.raises(redis.TimeoutError):
        hasty.get("key")
    own_redis.resume()
    assert client.get("key") == "value"
    own_redis.pause()
    own_redis.stop()
    assert not own_redis.running


def test_a_restarted_server_has_the_same_address_and_what_was_on_disk(folder: Path) -> None:
    with RedisServer(folder, appendonly=True) as server, client_of(server.url) as client:
        client.set("key", "value")
        pid, url = server.pid, server.url
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("key")
        server.restart()
        assert (server.pid != pid, server.url) == (True, url)
        assert client.get("key") == "value"
        server.restart(empty=True)
        assert client.get("key") is None


def test_without_appendonly_a_restart_forgets(own_redis: RedisServer, client: redis.Redis) -> None:
    client.set("key", "value")
    own_redis.restart()
    assert client.get("key") is None


def test_configuration_and_unix_socket(folder: Path) -> None:
    with (
        tempfile.TemporaryDirectory() as short,
        RedisServer(folder, "requirepass secret", unix_socket=Path(short, "socket")) as server,
    ):
        with client_of(server.unix_url) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.get("key")
        with redis.Redis.from_url(server.unix_url, password="secret") as friend:
            assert friend.ping()
    with pytest.raises(ValueError, match="too long"):
        RedisServer(folder, unix_socket=Path("/" + "x" * 200))


def test_a_wrong_configuration_is_told(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="no-such-setting"):
        RedisServer(folder, "no-such-setting yes")


def test_a_port_that_another_takes_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports, other_port = iter([taken]), random.randrange
        monkeypatch.setattr("servers.random.randrange", lambda *span: next(ports, other_port(*span)))
        monkeypatch.setattr("servers.listens", lambda port: False)  # It was free a moment ago.
        with RedisServer(folder) as server:
            assert server.port != taken


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_a_server_ends_with_a_process_that_is_killed(folder: Path) -> None:
    command = [sys.executable, "-c", CRASH, str(Path(__file__).parent / "support"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    until(lambda: not listens(int(done.stdout)), "the server outlives the process that started it")


def test_round_trips_are_counted(redis_server: RedisServer, redis_url: str) -> None:
    with RoundTrips(redis_server.port) as link, client_of(f"redis://127.0.0.1:{link.port}") as client:
        client.ping()
        link.reset()
        client.set("key", "value")
        client.get("key")
        assert link.count == 2
        link.reset()
        pipe = client.pipeline()
        for number in range(10):
            pipe.set(str(number), "x")
        pipe.execute()
        assert link.count == 1
        assert client.dbsize() == 11


def test_a_link_breaks_when_the_server_does(own_redis: RedisServer) -> None:
    with RoundTrips(own_redis.port) as link, client_of(f"redis://127.0.0.1:{link.port}") as client:
        client.ping()
        own_redis.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        own_redis.restart()
        assert client.ping()
    assert not listens(link.port)


def test_a_slow_link_counts_too_and_ends(redis_server: RedisServer, redis_url: str) -> None:
    with SlowLink(redis_server.port, delay=0.001) as link, client_of(f"redis://127.0.0.1:{link.port}") as client:
        client.ping()
        link.reset()
        assert client.set("key", "x" * 1_000_000)
        assert client.get("key") == "x" * 1_000_000
        assert link.count == 2
    with pytest.raises(ProcessLookupError):
        os.kill(link.pid, 0)
