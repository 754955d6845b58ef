"""The suite for ledgers."""

from __future__ import annotations

import threading

from ..backend import FileBackend, Usage
from ..errors import FileStoreError, SessionQuotaExceeded, StoreQuotaExceeded
from ..ledger import Change, Ledger, Limits, Reservation
from ..seam import check_seam
from .files import put
from .raising import raises


class LedgerContract:
    """Tests of a ``Ledger``. A subclass implements ``make_ledger()``."""

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
                old = self.backend.size(key, name)
                change.add(bytes=size - (old or 0), files=int(old is None), reservation=reservation)
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
            with raises(SessionQuotaExceeded):
                self.save("more", 1, reserve=reserve)
            self.save("big", 99, reserve=reserve)
            self.save("more", 1, reserve=reserve)
            with raises(SessionQuotaExceeded):
                self.save("fourth", 0, reserve=reserve)
            with raises(StoreQuotaExceeded):
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
        with raises(SessionQuotaExceeded):
            self.save("more", 0)
        with raises(SessionQuotaExceeded):
            self.save("empty", 2)
        with raises(StoreQuotaExceeded):
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
        with raises(SessionQuotaExceeded):
            self.save("more", 101)
        with raises(SessionQuotaExceeded):
            reservation.take(101)
        reservation.release()
        self.save("more", 1000)

    def test_a_file_that_is_moved_here_counts_too(self) -> None:
        """Bytes that are not written are within the limits of the session."""
        self.start(session_bytes=1_000_000)
        with raises(SessionQuotaExceeded):
            self.ledger.reserve("key", size=1_000_001, is_written=False)
        reservation = self.ledger.reserve("key", size=1_000_000, is_written=False)
        reservation.take(1_000_000)
        with raises(SessionQuotaExceeded):
            self.save("more", 1)
        reservation.release()
        self.save("more", 1)

    def test_replacing_reserves_the_growth(self) -> None:
        """A full session can replace a file by one of the same size."""
        self.start(session_bytes=1_000_000, files=2)
        self.save("big", 1_000_000)
        self.save("big", 1_000_000)
        with raises(SessionQuotaExceeded):
            self.ledger.reserve("key", size=1_000_001, replacing="big")
        assert self.ledger.usage("key") == Usage(1_000_000, 2)

    def test_a_change_that_fails_does_not_count(self) -> None:
        """After a ``FileStoreError`` the counts are as before, and after any other they are those of the files."""
        self.start(session_bytes=100, store_bytes=100)
        self.save("big", 60)
        with raises(FileStoreError):
            self.fail(FileStoreError("no"), late=False)
        assert self.ledger.usage("key") == Usage(60, 2)
        assert self.ledger.total() == Usage(60, 3)
        with raises(SessionQuotaExceeded):
            self.save("more", 41)
        with raises(ZeroDivisionError):
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
