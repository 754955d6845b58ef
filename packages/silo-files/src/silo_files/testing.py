"""The contracts that every ``FileBackend`` and every ``Ledger`` keep, as tests for pytest.

Subclass ``FileBackendContract`` in a test module and let ``make_backend()`` return a new, empty backend:

    class TestMyBackend(FileBackendContract):
        def make_backend(self) -> FileBackend:
            return MyBackend()

``LedgerContract`` is used in the same way.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

from .backend import FileBackend, StagedFile, Usage
from .errors import AreaGone, FileMissing, FileStoreError, SessionQuotaExceeded, StoreQuotaExceeded
from .ledger import Change, Ledger, Limits, Reservation
from .seam import check_seam


@contextlib.contextmanager
def _raises(expected: type[Exception]) -> Iterator[None]:
    try:
        yield
    except expected:
        return
    raise AssertionError(f"{expected.__name__} was not raised")


def put(backend: FileBackend, key: str, name: str, *blocks: bytes) -> str:
    """Save ``blocks`` as one file. Return its location."""
    staged = backend.stage(key, name)
    for block in blocks:
        staged.write(block)
    staged.finish()
    return staged.commit()


def content(backend: FileBackend, key: str, name: str) -> bytes:
    """Return the bytes of a saved file."""
    file, _ = backend.open(key, name)
    with file:
        return file.read()


class FileBackendContract:
    """Tests of a ``FileBackend``."""

    def make_backend(self) -> FileBackend:
        """Return a new, empty backend. Each test calls it once."""
        raise NotImplementedError

    def test_is_a_file_backend(self) -> None:
        """The backend and its staged files have all methods, and they take the arguments of the protocols."""
        backend = self.make_backend()
        check_seam("make_backend()", backend, FileBackend, "silo_files.FileBackend")
        staged = backend.stage("key", "a")
        check_seam("stage()", staged, StagedFile, "silo_files.backend.StagedFile")
        staged.abort()
        put(backend, "key", "a", b"1")
        assert content(backend, "key", "a") == b"1"

    def test_what_is_written_is_read(self) -> None:
        """A file may consist of blocks of every kind."""
        backend = self.make_backend()
        staged = backend.stage("key", "a.bin")
        for block in (b"one", bytearray(b"two"), memoryview(b"three")):
            staged.write(block)
        staged.finish()
        saved = staged.commit()
        assert (saved.info.name, saved.info.size) == ("a.bin", 11)
        assert saved.info == backend.stat("key", "a.bin")
        assert content(backend, "key", "a.bin") == b"onetwothree"
        path = backend.path("key", "a.bin")
        assert path is None or Path(path).read_bytes() == b"onetwothree"

    def test_a_block_is_taken_before_write_returns(self) -> None:
        """The caller may reuse its buffer."""
        backend = self.make_backend()
        buffer = bytearray(b"first")
        staged = backend.stage("key", "a")
        staged.write(memoryview(buffer))
        buffer[:] = b"other"
        staged.finish()
        staged.commit()
        assert content(backend, "key", "a") == b"first"

    def test_an_empty_file_is_a_file(self) -> None:
        """A file without blocks has no bytes."""
        backend = self.make_backend()
        put(backend, "key", "empty")
        assert content(backend, "key", "empty") == b""
        assert backend.usage("key") == Usage(0, 1)

    def test_a_staged_file_is_not_visible(self) -> None:
        """No method shows a file before its commit."""
        backend = self.make_backend()
        staged = backend.stage("key", "a")
        staged.write(b"half")
        assert backend.list("key") == []
        assert backend.names("key") == []
        assert backend.stat("key", "a") is None
        assert backend.path("key", "a") is None
        assert backend.usage("key") == Usage(0, 0)
        with _raises(FileMissing):
            backend.open("key", "a")
        staged.finish()
        staged.commit()
        assert backend.usage("key") == Usage(4, 1)

    def test_an_aborted_file_is_never_visible(self) -> None:
        """Aborting keeps the older file."""
        backend = self.make_backend()
        put(backend, "key", "a", b"old")
        staged = backend.stage("key", "a")
        staged.write(b"new")
        staged.abort()
        staged.abort()
        assert content(backend, "key", "a") == b"old"
        assert backend.total() == Usage(3, 1)

    def test_abort_after_commit_does_nothing(self) -> None:
        """A committed file stays."""
        backend = self.make_backend()
        staged = backend.stage("key", "a")
        staged.write(b"kept")
        staged.finish()
        staged.commit()
        staged.abort()
        assert content(backend, "key", "a") == b"kept"

    def test_a_later_commit_replaces(self) -> None:
        """The last commit wins, whichever file was staged first."""
        backend = self.make_backend()
        first, second = backend.stage("key", "a"), backend.stage("key", "a")
        first.write(b"first")
        second.write(b"second one")
        second.finish()
        second.commit()
        first.finish()
        first.commit()
        assert content(backend, "key", "a") == b"first"
        assert backend.usage("key") == Usage(5, 1)

    def test_each_content_has_its_etag(self) -> None:
        """Another content of a file has another ETag, also if it has the same size and comes at once."""
        backend = self.make_backend()
        etags = []
        for number in range(50):
            put(backend, "key", "a", bytes([number]))
            info = backend.stat("key", "a")
            assert info is not None
            etags.append(info.etag)
        assert len(set(etags)) == 50
        assert all(etag.isascii() and etag.isprintable() and '"' not in etag for etag in etags)

    def test_a_staged_file_can_be_read_back(self) -> None:
        """Several readers see all its bytes, and the file is still not visible."""
        backend = self.make_backend()
        staged = backend.stage("key", "a")
        staged.write(b"one")
        staged.write(b"two")
        staged.finish()
        with staged.open() as first, staged.open() as second:
            assert first.read() == second.read() == b"onetwo"
        assert backend.names("key") == []
        staged.commit()
        assert content(backend, "key", "a") == b"onetwo"

    def test_a_commit_may_give_another_name(self) -> None:
        """The name given to stage() stays free."""
        backend = self.make_backend()
        put(backend, "key", "a.csv", b"old")
        staged = backend.stage("key", "a.csv")
        staged.write(b"new")
        staged.finish()
        saved = staged.commit("b (2).txt")
        assert saved.info == backend.stat("key", "b (2).txt")
        assert backend.names("key") == ["a.csv", "b (2).txt"]
        assert content(backend, "key", "a.csv") == b"old"
        assert content(backend, "key", "b (2).txt") == b"new"
        assert backend.path("key", "b (2).txt") in (None, str(saved))

    def test_a_local_file_is_taken_whole_or_not_at_all(self) -> None:
        """The backend leaves it where it is."""
        backend = self.make_backend()
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "source")
            source.write_bytes(b"local")
            staged = backend.stage("key", "a")
            adopted = staged.adopt(str(source), source.stat())
            assert isinstance(adopted, bool)
            if not adopted:
                staged.write(b"local")
            staged.finish()
            with staged.open() as file:
                assert file.read() == b"local"
            assert backend.names("key") == []
            assert source.read_bytes() == b"local"
            saved = staged.commit()
            assert source.exists()
        assert content(backend, "key", "a") == b"local"
        assert saved.info == backend.stat("key", "a")

    def test_a_local_file_stays_when_its_save_is_aborted(self) -> None:
        """Nothing of it is in the backend."""
        backend = self.make_backend()
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "source")
            source.write_bytes(b"local")
            staged = backend.stage("key", "a")
            staged.adopt(str(source), source.stat())
            staged.abort()
            assert source.read_bytes() == b"local"
        assert backend.total() == Usage(0, 0)
        put(backend, "key", "a", b"1")
        assert content(backend, "key", "a") == b"1"

    def test_an_open_file_stays_as_it_was(self) -> None:
        """A reader goes on reading a file that is replaced meanwhile."""
        backend = self.make_backend()
        put(backend, "key", "a", b"old")
        before = backend.stat("key", "a")
        file, info = backend.open("key", "a")
        with file:
            with contextlib.suppress(PermissionError):  # Windows does not replace an open file
                put(backend, "key", "a", b"newer")
            assert (file.read(), info) == (b"old", before)

    def test_list_gives_the_names_in_order(self) -> None:
        """Names are returned as given, with sizes and times."""
        backend = self.make_backend()
        names = ["b", "a.csv", "\u00fc \U0001f600.txt", "x" * 255]
        for name in names:
            put(backend, "key", name, name.encode())
        infos = backend.list("key")
        assert [info.name for info in infos] == sorted(names)
        assert backend.names("key") == sorted(names)
        assert all(info.size == len(info.name.encode()) for info in infos)
        assert all(info == backend.stat("key", info.name) for info in infos)

    def test_areas_are_separate(self) -> None:
        """Names belong to their area."""
        backend = self.make_backend()
        put(backend, "one", "a", b"1")
        put(backend, "two", "a", b"22")
        assert content(backend, "one", "a") == b"1"
        assert backend.usage("two") == Usage(2, 1)
        assert backend.total() == Usage(3, 2)
        assert backend.remove_area("one")
        assert content(backend, "two", "a") == b"22"

    def test_delete(self) -> None:
        """Deleting returns whether the file existed."""
        backend = self.make_backend()
        put(backend, "key", "a", b"1")
        assert backend.delete("key", "a")
        assert not backend.delete("key", "a")
        assert not backend.delete("unknown", "a")
        assert backend.list("key") == []

    def test_an_unknown_area_is_empty(self) -> None:
        """Reading creates nothing."""
        backend = self.make_backend()
        assert backend.list("key") == []
        assert backend.usage("key") == Usage(0, 0)
        assert backend.stat("key", "a") is None
        assert not backend.remove_area("key")

    def test_a_removed_area_is_empty_at_once(self) -> None:
        """A removed area can be used again."""
        backend = self.make_backend()
        put(backend, "key", "a", b"1")
        assert backend.remove_area("key")
        assert backend.list("key") == []
        assert backend.total() == Usage(0, 0)
        put(backend, "key", "b", b"22")
        assert [info.name for info in backend.list("key")] == ["b"]

    def test_a_commit_into_a_removed_area_fails(self) -> None:
        """A clean-up during a save wins."""
        backend = self.make_backend()
        staged = backend.stage("key", "a")
        staged.write(b"late")
        assert backend.remove_area("key")
        staged.finish()
        with _raises(AreaGone):
            staged.commit()
        staged.abort()
        assert backend.total() == Usage(0, 0)

    def test_a_commit_into_the_next_life_of_an_area_fails(self) -> None:
        """An area that is created again is a different one."""
        backend = self.make_backend()
        staged = backend.stage("key", "a")
        staged.write(b"late")
        backend.remove_area("key")
        put(backend, "key", "b", b"new life")
        staged.finish()
        with _raises(AreaGone):
            staged.commit()
        staged.abort()
        assert [info.name for info in backend.list("key")] == ["b"]

    def test_remove_all(self) -> None:
        """No area is left."""
        backend = self.make_backend()
        for number in range(5):
            put(backend, f"key{number}", "a", b"1")
        assert backend.total() == Usage(5, 5)
        backend.remove_all()
        assert backend.total() == Usage(0, 0)

    def test_purge_keeps_live_areas(self) -> None:
        """Purging frees removed areas only."""
        backend = self.make_backend()
        put(backend, "dead", "a", b"1")
        put(backend, "live", "a", b"1")
        backend.remove_area("dead")
        backend.purge()
        assert backend.total() == Usage(1, 1)

    def test_sweep_asks_for_many_keys_at_once(self) -> None:
        """Areas of dead keys are removed. The answer may have other keys too."""
        backend = self.make_backend()
        for key in ("live", "dead", "also dead"):
            put(backend, key, "a", b"1")
        asked: list[list[str]] = []

        def living(keys: list[str]) -> Collection[str]:
            asked.append(sorted(keys))
            return {"live", "another"}

        assert backend.sweep(living) == 2
        assert asked == [["also dead", "dead", "live"]]
        assert backend.total() == Usage(1, 1)

    def test_sweep_tells_its_progress(self) -> None:
        """The last call says that all areas were looked at."""
        backend = self.make_backend()
        for number in range(3):
            put(backend, f"key{number}", "a", b"1")
        told: list[tuple[int, int]] = []
        assert backend.sweep(lambda keys: keys[:1], on_progress=lambda *seen: told.append(seen)) == 2
        assert told[-1] == (3, 3)
        assert told == sorted(told)

    def test_sweep_lets_living_use_the_backend(self) -> None:
        """No lock is held while living runs."""
        backend = self.make_backend()
        put(backend, "key", "a", b"1")

        def living(keys: list[str]) -> Collection[str]:
            for key in keys:
                put(backend, key, "b", b"2")
            return keys

        assert backend.sweep(living) == 0
        assert backend.usage("key") == Usage(2, 2)

    def test_many_threads_save_at_once(self) -> None:
        """Each file is whole."""
        backend = self.make_backend()

        def work(number: int) -> None:
            for turn in range(20):
                put(backend, f"key{number % 2}", f"{number}-{turn}", bytes([number]) * 100, b"end")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert backend.total() == Usage(160 * 103, 160)
        for key in ("key0", "key1"):
            for info in backend.list(key):
                number = int(info.name.split("-")[0])
                assert content(backend, key, info.name) == bytes([number]) * 100 + b"end"

    def test_it_works_again_after_close(self) -> None:
        """A closed backend reopens when it is used."""
        backend = self.make_backend()
        put(backend, "key", "a", b"1")
        backend.close()
        put(backend, "key", "b", b"2")
        assert backend.usage("key") == Usage(2, 2)


class LedgerContract:
    """Tests of a ``Ledger``."""

    def make_ledger(self, limits: Limits) -> tuple[FileBackend, Ledger]:
        """Return a new, empty backend, and a new ledger that counts its files. Each test calls it once."""
        raise NotImplementedError

    def start(self, **limits: int) -> None:
        """Make the backend and the ledger of a test, and two areas with an empty file each."""
        self.backend: FileBackend
        self.ledger: Ledger
        self.backend, self.ledger = self.make_ledger(Limits(**limits))
        for key in ("key", "other"):
            put(self.backend, key, "empty")

    def save(self, name: str, size: int, *, key: str = "key", reserve: bool = True) -> None:
        """Save a file as the store does."""
        staged = self.backend.stage(key, name)
        reservation = None
        try:
            if reserve:
                reservation = self.ledger.reserve(key, size=size, replacing=name)
                reservation.take(size)
            staged.write(b"x" * size)
            staged.finish()
            with self.ledger.change(key) as change:
                old = self.backend.stat(key, name)
                change.add(bytes=size - (old.size if old else 0), files=int(old is None), reservation=reservation)
                staged.commit()
        except BaseException:
            staged.abort()
            raise
        finally:
            if reservation is not None:
                reservation.release()

    def delete(self, name: str, size: int) -> None:
        """Delete a file as the store does."""
        with self.ledger.change("key") as change:
            change.add(bytes=-size, files=-1)
            assert self.backend.delete("key", name)

    def fail(self, error: BaseException, *, late: bool) -> None:
        """Begin to delete the file ``big``, and fail before or after that."""
        with self.ledger.change("key") as change:
            change.add(bytes=-60, files=-1)
            if late:
                self.backend.delete("key", "big")
            raise error

    def test_is_a_ledger(self) -> None:
        """The ledger and what it returns have all methods, and they take the arguments of the protocols."""
        self.start(session_bytes=10)
        check_seam("make_ledger()", self.ledger, Ledger, "silo_files.Ledger")
        check_seam("reserve()", self.ledger.reserve("key"), Reservation, "silo_files.Reservation")
        with self.ledger.change("key") as change:
            check_seam("change()", change, Change, "silo_files.Change")
        self.save("a", 10)
        assert self.ledger.usage("key") == Usage(10, 2)

    def test_the_limits_hold_to_the_byte(self) -> None:
        """A change that exceeds a limit is refused, whether or not room was reserved."""
        self.start(session_bytes=100, files=3, store_bytes=150)
        for reserve in (True, False):
            self.save("big", 100, reserve=reserve)
            with _raises(SessionQuotaExceeded):
                self.save("more", 1, reserve=reserve)
            self.save("big", 99, reserve=reserve)
            self.save("more", 1, reserve=reserve)
            with _raises(SessionQuotaExceeded):
                self.save("fourth", 0, reserve=reserve)
            with _raises(StoreQuotaExceeded):
                self.save("big", 51, key="other", reserve=reserve)
            self.save("big", 50, key="other", reserve=reserve)
            assert self.ledger.usage("key") == Usage(100, 3)
            assert self.ledger.total() == Usage(150, 5)
            self.delete("more", 1)
            self.delete("big", 99)
            self.save("big", 0, key="other", reserve=reserve)

    def test_an_unknown_key_is_an_empty_area(self) -> None:
        """Looking creates nothing."""
        self.start(session_bytes=100)
        self.save("big", 60)
        assert self.ledger.usage("unknown") == Usage(0, 0)
        assert self.ledger.total() == Usage(60, 3)

    def test_running_saves_have_their_room(self) -> None:
        """Room that is reserved for one save is not there for another, until it is released."""
        self.start(session_bytes=100_000_000, files=2, store_bytes=150_000_000)
        reservation = self.ledger.reserve("key", size=99_999_999)
        with _raises(SessionQuotaExceeded):
            self.save("more", 0)
        with _raises(SessionQuotaExceeded):
            self.save("empty", 2)
        with _raises(StoreQuotaExceeded):
            self.ledger.reserve("other", size=60_000_000)
        reservation.release()
        reservation.release()
        self.save("more", 2)
        assert self.ledger.usage("key") == Usage(2, 2)

    def test_a_growing_save_reserves_as_it_grows(self) -> None:
        """A file of unknown size has the room of the bytes that were taken."""
        self.start(session_bytes=1000)
        reservation = self.ledger.reserve("key")
        for _ in range(9):
            reservation.take(100)
        with _raises(SessionQuotaExceeded):
            self.save("more", 101)
        with _raises(SessionQuotaExceeded):
            reservation.take(101)
        reservation.release()
        self.save("more", 1000)

    def test_a_file_that_is_moved_here_counts_too(self) -> None:
        """Bytes that are not written are within the limits of the session."""
        self.start(session_bytes=1_000_000)
        with _raises(SessionQuotaExceeded):
            self.ledger.reserve("key", size=1_000_001, is_written=False)
        reservation = self.ledger.reserve("key", size=1_000_000, is_written=False)
        reservation.take(1_000_000)
        with _raises(SessionQuotaExceeded):
            self.save("more", 1)
        reservation.release()
        self.save("more", 1)

    def test_replacing_reserves_the_growth(self) -> None:
        """A full session can replace a file by one of the same size."""
        self.start(session_bytes=1_000_000, files=2)
        self.save("big", 1_000_000)
        self.save("big", 1_000_000)
        with _raises(SessionQuotaExceeded):
            self.ledger.reserve("key", size=1_000_001, replacing="big")
        assert self.ledger.usage("key") == Usage(1_000_000, 2)

    def test_a_change_that_fails_does_not_count(self) -> None:
        """After a ``FileStoreError`` the counts are as before, and after any other they are those of the files."""
        self.start(session_bytes=100, store_bytes=100)
        self.save("big", 60)
        with _raises(FileStoreError):
            self.fail(FileStoreError("no"), late=False)
        assert self.ledger.usage("key") == Usage(60, 2)
        assert self.ledger.total() == Usage(60, 3)
        with _raises(SessionQuotaExceeded):
            self.save("more", 41)
        with _raises(ZeroDivisionError):
            self.fail(ZeroDivisionError(), late=True)
        assert self.ledger.usage("key") == Usage(0, 1)
        self.save("more", 100)

    def test_a_removed_area_does_not_count(self) -> None:
        """Its room is free, in the store as well."""
        self.start(session_bytes=100, store_bytes=100)
        self.save("big", 100)
        with self.ledger.removal("key"):
            assert self.backend.remove_area("key")
        assert self.ledger.usage("key") == Usage(0, 0)
        self.save("big", 100, key="other")
        self.backend.remove_all()
        self.ledger.forget()
        assert self.ledger.total() == Usage(0, 0)
        self.save("big", 100)

    def test_threads_stay_within_the_limits(self) -> None:
        """Of many saves at once, as many succeed as fit."""
        self.start(session_bytes=1000, store_bytes=1500)
        refused: list[FileStoreError] = []

        def work(number: int) -> None:
            for turn in range(10):
                try:
                    self.save(f"{number}-{turn}", 30, key=("key", "other")[number % 2], reserve=number < 4)
                except (SessionQuotaExceeded, StoreQuotaExceeded) as error:
                    refused.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.ledger.total() == self.backend.total() == Usage(1500, 52)
        assert len(refused) == 30
