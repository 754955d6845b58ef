"""All keys of a backend lie in one slot of a cluster; the contract on a node of one, and on Valkey."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator

import pytest
from servers import DEADLINE, HOST, RedisServer, redis_binary, until
from silo_store import Backend, Life
from silo_store.backends.redis import RedisBackend
from silo_store.record import Blob, Change, Record
from silo_store.testing import BackendContract, all_due, at

pytestmark = pytest.mark.slow

redis_crc = pytest.importorskip("redis.crc")

SID, OTHER = "a" * 32, "b" * 32
LIFE = Life(SID, "uid-1")


class OnServer(BackendContract):
    """The contract on a server that is emptied for each test."""

    server: RedisServer

    def make_backend(self) -> Backend:
        return RedisBackend(self.server.url)

    def make_peer(self, backend: Backend) -> Backend:
        return RedisBackend(self.server.url)

    def lose_claims(self, backend: Backend) -> bool:
        assert isinstance(backend, RedisBackend)
        keys = backend._server.command("KEYS", backend._keys.claim + "*")
        return bool(backend._server.command("DEL", *keys))


class TestValkey(OnServer):
    @pytest.fixture(autouse=True)
    def _server(self, valkey_server: RedisServer, valkey_url: str) -> None:
        self.server = valkey_server


@pytest.fixture(scope="module")
def cluster_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A cluster of one node, which has all slots."""
    if redis_binary() is None:
        pytest.skip("there is no redis-server")
    settings = ("cluster-enabled yes", "cluster-require-full-coverage yes")
    with RedisServer(tmp_path_factory.mktemp("cluster"), *settings) as server:
        backend = RedisBackend(server.url)
        backend._server.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: b"cluster_state:ok" in backend._server.command("CLUSTER", "INFO"), "the cluster does not work")
        yield server


class TestCluster(OnServer):
    @pytest.fixture(autouse=True)
    def _server(self, cluster_node: RedisServer) -> None:
        cluster_node.flush()
        self.server = cluster_node

    def test_the_doctor_says_so(self) -> None:
        assert any(finding.topic == "cluster" for finding in self.make_backend().check(0.0))


def use_all(backend: RedisBackend, peer: RedisBackend) -> None:
    """Go every way through the scripts."""

    def begin(sid: str, uid: str, now: float) -> None:
        record = Record(sid, uid, now, now)
        record["ns"] = Blob(1, b"one")
        backend.create(record, at(now))

    begin(SID, "uid-1", 0.0)
    begin(OTHER, "uid-2", 50.0)
    backend.load(SID, at(9.0))
    backend.load_head(SID, at(9.0))
    backend.peek(SID)
    backend.peek_head(SID)
    claim, _ = backend.claim(SID, at(10.0), 1.0)
    with pytest.raises(Exception, match="not free in time"):
        peer.claim(SID, at(10.0), 0.05)
    large = {"ns": Change(1, b"two"), "more": Change(0, bytes(9000)), "other": Change(0, bytes(9000))}
    backend.write(LIFE, large, at(11.0), claim, last=True)
    backend.write(LIFE, {"more": Change(1, b"x")}, at(11.0))
    backend.attach(LIFE, "task", Change(0, b"x"), at(11.0))
    backend.attached(SID, at(11.5))
    backend.read(SID)
    backend.fetch(LIFE, "other")
    claim, _ = backend.claim(SID, at(12.0), 1.0)

    def wait() -> None:
        late, _ = peer.claim(SID, at(30.0), 30.0)
        peer.release(late)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: bool(backend._server.command("EXISTS", backend._keys.queue + SID)), "it does not wait")
    backend.release(claim)
    thread.join(30)
    backend.touch(LIFE, at(31.0))
    backend.hold("uid-1")
    backend._renew(["hold uid-1 someone", f"claim {SID} token", f"ended {SID} uid-1"])
    backend.held("uid-1")
    backend.unhold("uid-1")
    backend.rename(LIFE, "c" * 32, at(31.0))
    backend.look("c" * 32, at(31.0))
    backend.look("d" * 32, at(31.0))
    backend.find("uid-1")
    backend.sids()
    backend.count()
    all_due(backend, 95.0)  # one is moved to another bucket, one is due
    lives = all_due(backend, 1e6)
    assert len(lives) == 2
    backend.expire(lives[:1], at(1e6))
    backend.settle(backend.ended())
    backend.expired_at(SID)
    backend.expired_count()
    backend.prune(2e6)
    backend.remove(lives[1])
    backend._prefix.epoch = b"another"
    backend.load(SID, at(1e6))
    backend.check(0.0)


def monitored(server: RedisServer, backend: RedisBackend, peer: RedisBackend) -> list[list[str]]:
    """Every command that the server does meanwhile, those of scripts included."""
    with (
        socket.create_connection((HOST, server.port), timeout=DEADLINE) as connection,
        connection.makefile("rb") as stream,
    ):
        connection.sendall(b"MONITOR\r\n")
        assert stream.readline() == b"+OK\r\n"
        use_all(backend, peer)
        backend._server.command("ECHO", "the-end")
        found: list[list[str]] = []
        for line in stream:
            words = [word.decode() for word in re.findall(rb'"((?:[^"\\]|\\.)*)"', line)]
            if words == ["ECHO", "the-end"]:
                return found
            found.append(words)
    raise AssertionError("the server ended")


NO_KEYS = {"INFO", "TIME", "CLIENT", "SELECT", "HELLO", "PING"}
ALL_KEYS = {"DEL", "UNLINK", "EXISTS"}
ONE_KEY = {
    "GET",
    "SET",
    "GETRANGE",
    "SETRANGE",
    "PEXPIRE",
    "PTTL",
    "HSET",
    "HDEL",
    "HGET",
    "HGETALL",
    "INCRBY",
    "DECRBY",
    "LPOP",
    "RPUSH",
    "LRANGE",
    "LTRIM",
}
ONE_KEY |= {
    "LTRIM",
    "LREM",
    "LLEN",
    "LPOS",
    "ZADD",
    "ZREM",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "ZREMRANGEBYSCORE",
    "ZSCORE",
    "ZCARD",
    "STRLEN",
}


def keys_of(words: list[str]) -> list[str]:
    name = words[0].upper()
    if name in NO_KEYS:
        return []
    if name in ("EVALSHA", "EVAL"):
        return words[3 : 3 + int(words[2])]
    if name == "RENAME":
        return words[1:3]
    if name == "BLPOP":
        return words[1:-1]
    if name in ALL_KEYS:
        return words[1:]
    assert name in ONE_KEY, f"where are the keys of {name}?"
    return words[1:2]


@pytest.mark.parametrize("prefix", ["silo", "my app", "ünï"])
def test_every_key_lies_in_one_slot(redis_server: RedisServer, redis_url: str, prefix: str) -> None:
    """Those too which scripts make up themselves."""
    backend, peer = (RedisBackend(redis_url, prefix=prefix) for _ in range(2))
    commands = monitored(redis_server, backend, peer)
    keys = {key for words in commands for key in keys_of(words)}
    names = {words[0].upper() for words in commands}
    assert names >= {"EVALSHA", "BLPOP", "RENAME", "LTRIM", "ZRANGEBYSCORE", "LPOP"}
    raw = {key.encode().decode("unicode_escape").encode("latin-1") for key in keys}
    assert len({redis_crc.key_slot(key) for key in raw}) == 1
    beginnings = {key.partition(b":")[2].partition(b":")[0] for key in raw}
    assert beginnings == {
        *(b"s", b"l", b"a", b"u", b"t", b"q", b"w", b"h", b"r"),
        *(b"due", b"gone", b"ended", b"count", b"epoch", b"lost", b"noted"),
    }


@pytest.mark.parametrize("prefix", ["", "{", "}", "a{b}c"])
def test_a_prefix_that_would_spread_the_keys_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        RedisBackend("redis://127.0.0.1:1/0", prefix=prefix)


def test_prefixes_keep_applications_apart(redis_url: str) -> None:
    one, two = RedisBackend(redis_url, prefix="one"), RedisBackend(redis_url, prefix="two")
    one.create(Record(SID, "uid-1", 0.0, 0.0), at(0.0))
    assert (one.sids(), two.sids(), two.count(), two.peek(SID)) == ([SID], [], 0, None)
    assert all_due(two, 1e6) == []
