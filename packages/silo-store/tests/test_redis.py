"""The Redis backend keeps the contract."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

import pytest
import redis
from links import RoundTrips
from servers import RedisServer
from silo_store import Backend, Life, Moment, RecordDamaged, SessionStore, StoreUnavailable
from silo_store.backends.redis import RedisBackend, scripts
from silo_store.backends.redis.connections import Script
from silo_store.record import Blob, Change, Record
from silo_store.testing import SID, BackendContract, at, in_threads

OTHER, THIRD = "b" * 32, "c" * 32


class TestRedis(BackendContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def make_backend(self) -> Backend:
        return RedisBackend(self.url)

    def make_peer(self, backend: Backend) -> Backend:
        return RedisBackend(self.url)

    def lose_claims(self, backend: Backend) -> bool:
        assert isinstance(backend, RedisBackend)
        keys = backend._server.command("KEYS", backend._keys.claim + "*")
        return bool(backend._server.command("DEL", *keys))


@pytest.mark.parametrize("prefix", ["silo", "sï[l]*o?\\^-"])
def test_a_life_is_found_while_sweeps_and_rotations_move_it(redis_url: str, prefix: str) -> None:
    backend, sweeping = (RedisBackend(redis_url, prefix=prefix) for _ in range(2))
    for n in range(600):
        backend.create(Record(f"sid{n}", f"uid{n}", 0.0, 0.0), Moment(0.0, 100.0))
        backend.touch(Life(f"sid{n}", f"uid{n}"), Moment(90.0, 100.0))
    backend.create(Record("last", "uid-last", 0.0, 0.0), Moment(0.0, 100.0))
    seen = 0
    for lives in sweeping.due(Moment(120.0, 100.0)):  # the last one alone
        assert lives == [Life("last", "uid-last")]
        seen += 1
        for n in range(600):
            assert backend.find(f"uid{n}") == f"sid{n}"
        assert backend.find("uid-last") == "last"
    assert seen == 1
    assert backend.rename(Life("sid9", "uid9"), "new", Moment(120.0, 100.0))
    assert not list(sweeping.due(Moment(190.0, 100.0)))[1:]
    assert backend.find("uid9") == "new"
    assert backend.find("uid600") is None
    assert backend.remove(Life("sid7", "uid7"))
    assert backend.find("uid7") is None
    assert sorted(backend.sids()) == sorted({*(f"sid{n}" for n in range(600)), "last", "new"} - {"sid7", "sid9"})
    assert backend.count() == 600
    backend.close()
    sweeping.close()


def test_a_record_that_the_server_drops_is_no_longer_counted_after_a_sweep(redis_url: str) -> None:
    backend = RedisBackend(redis_url)
    begin(backend, {"large": Blob(1, bytes(9000))})
    client = redis.Redis.from_url(redis_url)
    client.delete("{silo}:s:" + SID)
    assert backend.find("uid-1") is None
    assert backend.sids() == []
    assert list(backend.due(at(1e6))) == []
    assert backend.count() == 0
    begin(backend, {"small": Blob(1, b"small")}, uid="uid-2")
    client.delete("{silo}:s:" + SID)
    begin(backend, {"small": Blob(1, b"small")}, uid="uid-3")
    assert (backend.find("uid-2"), backend.find("uid-3")) == (None, SID)
    assert list(backend.due(at(1e6))) == [[Life(SID, "uid-3")]]
    assert (backend.count(), backend.sids()) == (1, [SID])


def begin(backend: Backend, blobs: dict[str, Blob], uid: str = "uid-1") -> Record:
    record = Record(SID, uid, 0.0, 0.0)
    record.update(blobs)
    return backend.create(record, at(0.0))


BESIDE = ("{silo}:l:uid-1", "{silo}:a:uid-1")


def test_the_hashes_beside_a_record_live_as_long_as_it(redis_url: str) -> None:
    backend = RedisBackend(redis_url)
    client = redis.Redis.from_url(redis_url)
    life = Life(SID, "uid-1")
    record = "{silo}:s:" + SID
    for end in (lambda: backend.remove(life), lambda: backend.expire([life], at(1e6))):
        begin(backend, {"large": Blob(1, bytes(9000)), "small": Blob(1, b"small")})
        backend.attach(life, "task", Change(0, b"task"), at(0.0))
        for use in (
            lambda: backend.load(SID, at(1.0)),
            lambda: backend.load_head(SID, at(2.0)),
            lambda: backend.look(SID, at(3.0)),
            lambda: backend.touch(life, at(4.0)),
            lambda: backend.attached(SID, at(5.0)),
            lambda: backend.write(life, {"small": Change(1, b"other")}, at(6.0)),
            lambda: backend.attach(life, "task", Change(1, b"other"), at(7.0)),
            lambda: backend.release(backend.claim(SID, at(8.0), 1.0)[0]),
        ):
            for key in (record, *BESIDE):
                client.pexpire(key, 1_000_000)
            use()
            left = [client.pttl(key) for key in (record, *BESIDE)]
            assert min(left) > 1_000_000, "renewed with the record"
        end()
        assert client.exists(record, *BESIDE) == 0
    assert backend.count() == 0


def test_no_use_is_recorded_within_the_touch_interval(redis_url: str) -> None:
    backend = RedisBackend(redis_url)
    begin(backend, {"small": Blob(1, b"small")})
    client = redis.Redis.from_url(redis_url)
    before = client.get("{silo}:s:" + SID)
    for use in (backend.load, backend.load_head, backend.look, backend.attached):
        use(SID, at(5.0, touch_interval=5.0))
    assert backend.touch(Life(SID, "uid-1"), at(5.0, touch_interval=5.0))
    assert client.get("{silo}:s:" + SID) == before
    assert backend.touch(Life(SID, "uid-1"), at(1e6, touch_interval=5.0)), "a due record is renewed"
    assert client.get("{silo}:s:" + SID) != before


def test_a_missing_or_replaced_large_namespace_counts_as_damage(redis_url: str) -> None:
    backend = RedisBackend(redis_url)
    begin(backend, {"large": Blob(1, bytes(9000))})
    client = redis.Redis.from_url(redis_url)
    client.hset(BESIDE[0], "large", b"\0\0\0\x01" + bytes(8999))
    with pytest.raises(RecordDamaged):
        backend.read(SID)
    client.hset(BESIDE[0], "large", b"\0")
    for ask in (lambda: backend.read(SID), lambda: backend.fetch(Life(SID, "uid-1"), "large")):
        with pytest.raises(RecordDamaged):
            ask()
    client.delete(BESIDE[0])
    for ask in (lambda: backend.read(SID), lambda: backend.fetch(Life(SID, "uid-1"), "large")):
        with pytest.raises(RecordDamaged):
            ask()


def test_two_writers_of_two_namespaces_do_not_conflict(redis_url: str) -> None:
    """Each writes over a record that the other has changed, and tries again."""
    backend = RedisBackend(redis_url)
    life = Life(SID, "uid-1")
    begin(backend, {"0": Blob(1, b"0"), "1": Blob(1, bytes(9000))})

    def work(number: int) -> None:
        own, record = RedisBackend(redis_url), backend.peek(SID)
        for version in range(1, 51):
            record = own.write(life, {str(number): Change(version, b"x" * 300 * version)}, at(1.0), base=record)
        own.close()

    in_threads(2, work)
    assert backend.read(SID) == {"0": Blob(51, b"x" * 15000), "1": Blob(51, b"x" * 15000)}


def test_round_trips(redis_server: RedisServer, redis_url: str) -> None:
    large = {"a": "x" * 9000, "b": "x" * 70_000}
    with RoundTrips(redis_server.port) as link:
        store = SessionStore(backend=f"redis://127.0.0.1:{link.port}/0", touch_interval=0.0)
        store.register_namespace("small", lambda: {"value": 0})
        for name, text in large.items():
            store.register_namespace(name, lambda text=text: {"text": text})  # type: ignore[misc]

        def trips(work: Callable[[], object]) -> int:
            link.reset()
            work()
            count: int = link.count
            return count

        def write(*names: str) -> None:
            with store.edit(SID, lazy=True) as session:
                for name in names:
                    session[name]["value"] = time.perf_counter()

        def read(*names: str) -> None:
            session = store.open(SID, lazy=True)
            for name in (*names, *names):
                session[name]

        store.get(OTHER)  # connects
        with redis.Redis.from_url(redis_url) as client:
            for script in vars(scripts).values():
                if isinstance(script, Script):
                    client.script_load(script.text)
        assert trips(lambda: store.get_namespace(OTHER, "small")) == 1
        assert trips(lambda: write("small", "a", "b")) == 2, "a new session"
        assert trips(lambda: read("small")) == 1
        assert trips(lambda: read("small", "a")) == 2
        assert trips(lambda: read("small", "a", "b")) == 3
        assert trips(lambda: write("small")) == 2
        assert trips(lambda: write("small", "a")) == 3
        assert trips(lambda: store.touch(SID)) == 1
        assert trips(lambda: store.exists(SID)) == 1
        assert trips(lambda: store.is_expired(SID)) == 1
        assert trips(lambda: store.peek(SID)) == 1
        life = Life(SID, store.uid(SID) or "")
        assert trips(lambda: store.has_life(life.uid)) == 1
        assert trips(lambda: store.living(map(str, range(1000)))) == 1
        assert trips(lambda: store.living([])) == 0
        assert trips(lambda: store.renew(life)) == 1
        assert trips(lambda: store.backend.attach(life, "task", Change(0, b"x"), store.moment())) == 1
        assert trips(lambda: store.attached(SID)) == 1
        store.close()


def test_a_renewal_reads_the_head_only(redis_server: RedisServer, redis_url: str) -> None:
    store = SessionStore(backend=redis_url, touch_interval=0.0)
    store.register_namespace("much", lambda: {"text": "x" * 8000, "value": 0})
    store.get(SID)
    with redis.Redis.from_url(redis_url) as client:
        for renew in (store.touch, store.exists, store.is_expired, store.attached):
            renew(SID)
            before = client.info("stats")["total_net_output_bytes"]
            renew(SID)
            assert client.info("stats")["total_net_output_bytes"] - before < 8000
    store.close()


def old_layout(client: redis.Redis) -> None:
    """Write records of a layout that has no number: one session with one namespace."""
    now, uid = time.time(), b"uid-12345678"
    namespace = struct.pack(">HII", 5, 1, 4) + b"small" + b"\x81\xa1v\x00"
    record = struct.pack(">ddIB", now, now, int(now // 8) * 8, len(uid)) + uid + namespace
    client.set("{silo}:s:" + SID, record, px=10**9)
    client.rpush(f"{{silo}}:due:{int(now // 8) * 8}", SID)
    client.zadd("{silo}:due", {str(int(now // 8) * 8): int(now // 8) * 8})
    client.sadd("{silo}:living", SID)
    client.zadd("{silo}:gone", {OTHER: 1.0})
    client.zadd("{silo}:ended", {f"{OTHER} {'u' * 12}": 0})
    client.set("{silo}:epoch", "k3JqZx0aB_-9")


def test_an_old_layout_is_refused_and_nothing_is_written(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    old_layout(client)

    def everything() -> dict[bytes | str, bytes | None]:
        return {key: client.dump(key) for key in client.keys("*")}

    before = everything()
    life, late = Life(SID, "uid-12345678"), at(time.time() + 1e6)
    record = Record(THIRD, "uid-3", 0.0, 0.0)
    for ask in (
        lambda b: b.load(SID, late),
        lambda b: b.load_head(SID, late),
        lambda b: b.look(SID, late),
        lambda b: b.look(THIRD, late),
        lambda b: b.peek(SID),
        lambda b: b.peek_head(SID),
        lambda b: b.read(SID),
        lambda b: b.fetch(life, "small"),
        lambda b: b.attached(SID),
        lambda b: b.claim(SID, late, 1.0),
        lambda b: b.create(record, late),
        lambda b: b.write(life, {"small": Change(1, b"x")}, late),
        lambda b: b.attach(life, "task", Change(0, b"x"), late),
        lambda b: b.touch(life, late),
        lambda b: b.remove(life),
        lambda b: b.remove(Life(SID, "")),
        lambda b: b.rename(life, THIRD, late),
        lambda b: b.find(life.uid),
        lambda b: b.living([life.uid]),
        lambda b: list(b.due(late)),
        lambda b: b.expire([life], late),
        lambda b: b.ended(),
        lambda b: b.expired_at(SID),
        lambda b: b.prune(late.now),
        lambda b: b.hold(life.uid),
        lambda b: b.held(life.uid),
        lambda b: b.count(),
        lambda b: b.expired_count(),
        lambda b: b.sids(),
    ):
        backend = RedisBackend(redis_url)
        with pytest.raises(
            StoreUnavailable, match=r"\{silo\}:\* have layout 1 .*, not 2: use another prefix, or delete"
        ):
            ask(backend)
        backend.close()
    assert everything() == before
    backend = RedisBackend(redis_url)
    (finding,) = [each for each in backend.check(time.time()) if each.level == "error"]
    assert "layout 1" in finding.message
    client.set("{silo}:epoch", "3:k3JqZx0aB_-9")
    with pytest.raises(StoreUnavailable, match="layout 3 "):
        backend.load(SID, late)
    other = RedisBackend(redis_url, prefix="other")
    assert (other.load(SID, late), other.count()) == (None, 0)


def test_a_removed_record_whose_uid_cannot_be_read_is_no_longer_counted(redis_url: str) -> None:
    backend = RedisBackend(redis_url)
    client = redis.Redis.from_url(redis_url)
    begin(backend, {"large": Blob(1, bytes(9000))})
    other = Record(OTHER, "uid-2", 0.0, 0.0)
    backend.create(other, at(0.0))
    client.set("{silo}:s:" + SID, b"?")
    assert not backend.remove(Life(SID, "uid-1"))
    assert not backend.remove(Life(OTHER, ""))
    assert backend.count() == 2
    assert backend.remove(Life(SID, ""))
    assert (backend.count(), backend.sids(), backend.find("uid-1")) == (1, [OTHER], None)
    assert client.exists(*BESIDE) == 0
    assert not backend.remove(Life(SID, ""))
