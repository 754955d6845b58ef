"""The suite for backends."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Collection
from pathlib import Path

from ..backend import FileBackend, StagedFile, Usage
from ..errors import AreaGone, FileMissing
from ..seam import check_seam
from .files import content, put
from .raising import raises


class FileBackendContract:
    """Tests of a ``FileBackend``. A subclass implements ``make_backend()``."""

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
        assert backend.size("key", "a.bin") == 11
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
        assert backend.size("key", "empty") == 0
        assert backend.usage("key") == Usage(0, 1)

    def test_a_staged_file_is_not_visible(self) -> None:
        """No method shows a file before its commit."""
        backend = self.make_backend()
        staged = backend.stage("key", "a")
        staged.write(b"half")
        assert backend.list("key") == []
        assert backend.names("key") == []
        assert backend.stat("key", "a") is None
        assert backend.size("key", "a") is None
        assert backend.path("key", "a") is None
        assert backend.usage("key") == Usage(0, 0)
        with raises(FileMissing):
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
        assert backend.size("key", "a") == 5
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
        assert backend.size("key", "a") is None
        assert not backend.delete("unknown", "a")
        assert backend.list("key") == []

    def test_an_unknown_area_is_empty(self) -> None:
        """Reading creates nothing."""
        backend = self.make_backend()
        assert backend.list("key") == []
        assert backend.usage("key") == Usage(0, 0)
        assert backend.stat("key", "a") is None
        assert backend.size("key", "a") is None
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
        with raises(AreaGone):
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
        with raises(AreaGone):
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
