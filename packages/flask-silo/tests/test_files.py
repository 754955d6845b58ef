"""Files that belong to a session."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from flask import Flask, jsonify, request
from flask.testing import FlaskClient
from flask_silo import FileStore, SessionExpired, Silo, SiloError, StoreUnavailable
from flask_silo_helpers import as_, counter_app
from silo_files import AreaGone, FileMissing, FileRefused, FileStoreError, TruncatedInput
from silo_store import SessionRotated
from silo_store.testing import SID, TTL, Clock, in_threads


@pytest.fixture
def uploads(silo: Silo, tmp_path: Path) -> FileStore:
    return silo.add_file_store("uploads", str(tmp_path / "uploads"), max_file_bytes=1000)


def upload(client: FlaskClient, name: str = "a.csv", data: bytes = b"x,y\n", sid: str = SID) -> Any:
    return client.post("/api/upload", headers=as_(sid), data={"file": (io.BytesIO(data), name)})


def test_a_file_is_the_sessions_own(uploads: FileStore, client: FlaskClient, silo: Silo) -> None:
    assert upload(client).json == ["a.csv"]
    path = uploads.get_path(SID, "a.csv")
    assert path is not None
    assert Path(path).read_bytes() == b"x,y\n"
    assert SID not in path
    assert uploads.list_files("b" * 32) == []
    assert silo.file_store("uploads") is uploads
    assert silo.store.exists(SID), "a file begins the session that it belongs to"
    assert not silo.store.exists("b" * 32), "looking begins nothing"


def test_an_unknown_file_store_is_named_with_those_that_exist(silo: Silo, tmp_path: Path) -> None:
    advice = "correct the name, or call add_file_store() first"
    with pytest.raises(KeyError) as without:
        silo.file_store("upload")
    assert str(without.value) == f"there is no file store 'upload', the application has none: {advice}"
    silo.add_file_store("uploads", tmp_path / "uploads")
    silo.add_file_store("results", tmp_path / "results")
    with pytest.raises(SiloError) as caught:
        silo.file_store("upload")
    assert str(caught.value) == f"there is no file store 'upload', the application has uploads, results: {advice}"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_file_that_comes_in_slowly_keeps_no_other_request_waiting(
    uploads: FileStore, client: FlaskClient, silo: Silo
) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            (other,) = in_threads(
                1, lambda _: client.application.test_client().post("/api/increment", headers=as_(SID))
            )
            assert other.status_code == 200
            return super().read(size)

        def readinto(self, buffer: Any) -> int:
            self.read(0)
            return super().readinto(buffer)

    with client.application.test_request_context("/api/upload", method="POST", headers=as_(SID)):
        client.application.preprocess_request()
        silo.file_store("uploads").save(SID, "slow.csv", Slow(b"1"))
    assert uploads.list_files(SID) == ["slow.csv"]


def test_what_is_known_of_files_is_answered_as_objects(
    uploads: FileStore, app: Flask, client: FlaskClient, silo: Silo
) -> None:
    @app.get("/api/listing")
    def listing() -> Any:
        return jsonify(files=uploads.files(silo.sid), usage=uploads.usage(silo.sid))

    upload(client)
    answer = client.get("/api/listing", headers={"X-Session-ID": SID}).get_json()

    (info,) = uploads.files(SID)
    assert answer == {
        "files": [{"name": "a.csv", "size": 4, "modified": info.modified, "etag": info.etag, "digest": None}],
        "usage": {"bytes": 4, "files": 1},
    }


def test_files_go_when_the_session_does(uploads: FileStore, client: FlaskClient, silo: Silo, clock: Clock) -> None:
    for end in (silo.store.destroy, silo.store.reset, lambda sid: clock.advance(TTL + 1)):
        upload(client)
        old = uploads.get_path(SID, "a.csv")
        assert old is not None
        end(SID)
        assert uploads.list_files(SID) == []
        silo.store.cleanup()
        assert not Path(old).exists()


def test_a_sweep_that_comes_late_spares_the_next_life(
    uploads: FileStore, client: FlaskClient, silo: Silo, clock: Clock
) -> None:
    upload(client)
    clock.advance(TTL + 1)
    assert upload(client, "new.csv").json == ["new.csv"]
    assert silo.store.cleanup() == [SID]
    assert uploads.list_files(SID) == ["new.csv"]


def test_files_follow_a_rotation(uploads: FileStore, client: FlaskClient, silo: Silo) -> None:
    upload(client)
    new = silo.store.rotate(SID)
    assert uploads.list_files(new) == ["a.csv"]
    assert uploads.list_files(SID) == []


@pytest.mark.parametrize(
    ("name", "data", "status", "error"),
    [("a.csv", b"x" * 1001, 413, "file_too_large"), ("NUL.csv", b"x", 400, "invalid_file_name")],
)
def test_errors_have_an_answer(
    uploads: FileStore, client: FlaskClient, name: str, data: bytes, status: int, error: str
) -> None:
    answer = upload(client, name, data)
    assert (answer.status_code, answer.json["error"]) == (status, error)
    assert uploads.list_files(SID) == []


@pytest.mark.parametrize("look", ["open", "info"])
def test_a_missing_file_is_404(uploads: FileStore, app: Flask, client: FlaskClient, silo: Silo, look: str) -> None:
    @app.get("/api/file")
    def file() -> Any:
        getattr(uploads, look)(silo.sid, "none.csv")

    for _ in range(2):  # a session without files, and one that has another
        answer = client.get("/api/file", headers=as_(SID))
        assert (answer.status_code, (answer.json or {})["error"]) == (404, "file_missing")
        assert answer.headers["Cache-Control"] == "no-store"
        upload(client)


def test_what_a_dead_process_left_is_cleared_away_at_the_first_request(url: str, tmp_path: Path) -> None:
    def serve() -> tuple[Silo, Flask]:
        silo = Silo(store_url=url, auto_cleanup=False, accept_client_ids=True)
        silo.register("counter", lambda: {"value": 0})
        silo.add_file_store("uploads", str(tmp_path / "uploads"))
        return silo, counter_app(silo)

    silo, app = serve()
    upload(app.test_client())
    left = silo.file_store("uploads").get_path(SID, "a.csv")
    assert left is not None
    _, other = serve()
    other.test_client().get("/api/idle")
    assert Path(left).exists(), "its process lives"
    silo.file_store("uploads").close()
    _, last = serve()
    last.test_client().get("/api/idle")
    assert not Path(left).exists()


def test_a_sweep_asks_no_more_once_the_sessions_cannot_be_reached(
    uploads: FileStore, silo: Silo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead = FileStore(tmp_path / "uploads")
    for number in range(3):
        dead.save(f"uid{number}", "a.csv", b"1")
    dead.close()
    asked: list[int] = []

    def away(uids: list[str]) -> list[str]:
        asked.append(len(uids))
        raise StoreUnavailable("the store is away")

    silo.add_file_store("more", tmp_path / "uploads")
    silo.files.sweep(away)
    assert asked == [3]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.endswith("another process starts: the store is away")
    silo.files.sweep(lambda uids: {"uid1"})
    uploads.purge()
    assert [uploads.backend.usage(f"uid{number}").files for number in range(3)] == [0, 1, 0]


def test_an_upload_that_ends_after_its_session_leaves_nothing(
    uploads: FileStore, client: FlaskClient, silo: Silo
) -> None:
    class Late(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            in_threads(1, lambda _: silo.store.reset(SID))
            return super().readinto(buffer)

        def read(self, size: int | None = -1) -> bytes:
            in_threads(1, lambda _: silo.store.reset(SID))
            return super().read(size)

    silo.store.get(SID)
    with client.application.app_context(), pytest.raises(SessionExpired):
        uploads.save(SID, "late.csv", Late(b"123"))
    assert uploads.list_files(SID) == []
    uploads.purge()
    assert uploads.total_size_bytes == 0


def areas(store: FileStore) -> list[Path]:
    return list(Path(store.base_dir).glob("areas/*/*"))


class Ends(io.BytesIO):
    """A source that ends the session at its first read, and calls a function at its second."""

    def __init__(self, silo: Silo, then: Any) -> None:
        super().__init__(b"x" * 100)
        self.silo = silo
        self.then = then

    def readinto(self, buffer: Any) -> int:
        if self.tell() == 0:
            in_threads(1, lambda _: self.silo.store.destroy(SID))
        else:
            self.then()
        return super().readinto(buffer)


def broken_off() -> None:
    raise ConnectionResetError("the client is gone")


@pytest.mark.parametrize(
    ("then", "options", "error"),
    [
        (broken_off, {}, ConnectionResetError),
        (lambda: None, {"size": 101}, TruncatedInput),
    ],
)
def test_an_upload_that_fails_after_its_session_ended_leaves_nothing(
    uploads: FileStore, client: FlaskClient, silo: Silo, then: Any, options: Any, error: type[Exception]
) -> None:
    silo.store.get(SID)
    with client.application.app_context(), pytest.raises(error):
        uploads.save(SID, "late.csv", Ends(silo, then), **options)
    assert areas(uploads) == []


def test_an_upload_that_fails_once_its_folder_is_there_leaves_nothing(
    uploads: FileStore, client: FlaskClient, silo: Silo, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = uploads.backend.stage

    def late(key: str, name: str) -> Any:
        in_threads(1, lambda _: silo.store.destroy(SID))  # the clean-up of the session finds no files
        staged = stage(key, name)
        assert areas(uploads)
        monkeypatch.setattr(type(staged), "finish", lambda self: broken_off())
        return staged

    monkeypatch.setattr(uploads.backend, "stage", late)
    silo.store.get(SID)
    with client.application.app_context(), pytest.raises(ConnectionResetError):
        uploads.save(SID, "late.csv", b"x")
    assert areas(uploads) == []


def test_a_folder_of_a_session_that_ends_meanwhile_is_not_left(
    uploads: FileStore, client: FlaskClient, silo: Silo, monkeypatch: pytest.MonkeyPatch
) -> None:
    area_path = uploads.backend.area_path

    def late(key: str, *, create: bool) -> Any:
        in_threads(1, lambda _: silo.store.destroy(SID))
        return area_path(key, create=create)

    monkeypatch.setattr(uploads.backend, "area_path", late)
    with client.application.app_context(), pytest.raises(SessionExpired):
        uploads.session_dir(SID)
    assert areas(uploads) == []


def test_a_folder_is_never_one_of_the_session_id(
    uploads: FileStore, client: FlaskClient, silo: Silo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that ended just after it began has no uid, and its id must not be used in place of the uid."""
    begin, keys = silo.files.begin, list[str]()

    def begun_and_ended(sid: str) -> str:
        uid = begin(sid)
        silo.store.destroy(sid)
        return uid

    area_path = uploads.backend.area_path

    def noted(key: str, *, create: bool) -> Any:
        keys.append(key)
        return area_path(key, create=create)

    monkeypatch.setattr(silo.files, "begin", begun_and_ended)
    monkeypatch.setattr(uploads.backend, "area_path", noted)
    with client.application.app_context(), pytest.raises(SessionExpired):
        uploads.session_dir(SID)
    assert keys
    assert SID not in keys
    assert areas(uploads) == []


def test_the_error_of_a_save_is_told_though_the_sessions_cannot_be_reached(
    uploads: FileStore, client: FlaskClient, silo: Silo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        def uid(sid: str) -> str:
            raise StoreUnavailable("away")

        monkeypatch.setattr(silo.store, "uid", uid)
        raise ConnectionResetError

    silo.store.get(SID)
    with client.application.app_context(), pytest.raises(ConnectionResetError):
        uploads.save(SID, "late.csv", Ends(silo, away))


def test_a_failed_save_of_a_living_session_takes_nothing_away(
    uploads: FileStore, client: FlaskClient, silo: Silo
) -> None:
    upload(client)
    with client.application.app_context():
        with pytest.raises(TruncatedInput):
            uploads.save(SID, "late.csv", b"1", size=2)
        assert uploads.list_files(SID) == ["a.csv"]
        assert Path(uploads.session_dir(SID)).is_dir()


def test_a_view_saves_into_the_life_that_it_has_seen(
    uploads: FileStore, app: Flask, client: FlaskClient, silo: Silo
) -> None:
    @app.get("/api/report")
    def report() -> Any:
        silo.state("counter")
        silo.store.reset(SID)
        uploads.save(SID, "old.csv", b"1")
        return {}

    client.post("/api/increment", headers=as_(SID))
    assert client.get("/api/report", headers=as_(SID)).status_code == 410
    assert uploads.list_files(SID) == []


def test_two_applications_keep_each_others_files(tmp_path: Path, url: str) -> None:
    silo = Silo(store_url=url, auto_cleanup=False, accept_client_ids=True)
    silo.register("counter", lambda: {"value": 0})
    uploads = silo.add_file_store("uploads", tmp_path / "uploads")
    first, second = counter_app(silo), counter_app(silo)
    upload(first.test_client())
    second.test_client().get("/api/idle")
    with first.app_context():
        assert uploads.list_files(SID) == ["a.csv"]
    with second.app_context():
        assert uploads.list_files(SID) == []


def test_a_file_store_has_a_name_of_its_own(silo: Silo, tmp_path: Path) -> None:
    silo.add_file_store("same", tmp_path / "one")
    with pytest.raises(ValueError, match="already"):
        silo.add_file_store("same", tmp_path / "two")


def test_a_writer_begins_a_session(uploads: FileStore, client: FlaskClient, silo: Silo) -> None:
    with client.application.app_context(), uploads.writer(SID, "a.csv") as out:
        assert silo.store.exists(SID)
        out.write(b"1")
    assert uploads.info(SID, "a.csv") == out.info


def test_a_writer_in_a_session_that_ends_saves_nothing(uploads: FileStore, client: FlaskClient, silo: Silo) -> None:
    with client.application.app_context():
        out = uploads.writer(SID, "late.csv")
        out.write(b"1")
        in_threads(1, lambda _: silo.store.reset(SID))
        with pytest.raises(AreaGone):
            out.commit()
    assert areas(uploads) == []


def test_a_writer_whose_session_ends_with_its_commit_keeps_nothing(
    uploads: FileStore, client: FlaskClient, silo: Silo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clean-up of the session ran before there was a folder."""
    with client.application.app_context():
        silo.store.get(SID)
        stage = uploads.backend.stage

        def late(key: str, name: str) -> Any:
            in_threads(1, lambda _: silo.store.destroy(SID))
            return stage(key, name)

        monkeypatch.setattr(uploads.backend, "stage", late)
        out = uploads.writer(SID, "late.csv")
        with pytest.raises(SessionExpired):
            out.commit()
        with pytest.raises(ValueError, match="not saved"):
            out.info  # noqa: B018
        assert areas(uploads) == []

        silo.store.get(SID)
        out = uploads.writer(SID, "late.csv")
        assert areas(uploads)
        out.abort()
    assert areas(uploads) == []


def test_a_writer_that_cannot_begin_leaves_no_folder(
    uploads: FileStore, client: FlaskClient, silo: Silo, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = uploads.backend.stage

    def late(key: str, name: str) -> Any:
        in_threads(1, lambda _: silo.store.destroy(SID))
        stage(key, name).abort()
        assert areas(uploads)
        broken_off()

    monkeypatch.setattr(uploads.backend, "stage", late)
    silo.store.get(SID)
    with client.application.app_context(), pytest.raises(ConnectionResetError):
        uploads.writer(SID, "late.csv")
    assert areas(uploads) == []


def test_a_writer_of_a_request_whose_session_was_rotated_is_refused(
    uploads: FileStore, client: FlaskClient, silo: Silo
) -> None:
    silo.store.get(SID)
    with client.application.test_request_context("/api/upload", method="POST", headers=as_(SID)):
        client.application.preprocess_request()
        out = uploads.writer(SID, "late.csv")
        in_threads(1, lambda _: silo.store.rotate(SID))
        with pytest.raises(SessionRotated):
            out.commit()
        assert uploads.list_files(SID) == []


def test_refusals_of_what_is_saved_have_an_answer(app: Flask, client: FlaskClient, silo: Silo, tmp_path: Path) -> None:
    def validate(name: str, file: BinaryIO) -> None:
        if not file.read(1):
            raise FileRefused("it is empty")

    tables = silo.add_file_store("tables", tmp_path / "tables", extensions=[".csv", ".tsv"], validate=validate)

    @app.put("/api/tables/<name>")
    def save(name: str) -> Any:
        digest = request.args.get("digest")
        saved = tables.save(silo.sid, name, request.stream, digest=digest, on_conflict="error")
        return jsonify(saved.info)

    def said(path: str, data: bytes) -> Any:
        answer = client.put(f"/api/tables/{path}", data=data, headers=as_(SID))
        json = answer.get_json()
        return answer.status_code, json.get("error"), json.get("message")

    assert said("a.csv", b"x")[0] == 200
    assert said("a.csv", b"x") == (409, "name_taken", "There is already a file of this name.")
    assert said("a.exe", b"x") == (415, "extension_refused", "The file's name must end with .csv or .tsv.")
    assert said("b.csv", b"") == (422, "file_refused", "The file was refused: it is empty")
    assert said(f"b.csv?digest=md5:{'0' * 32}", b"x")[:2] == (400, "digest_mismatch")
    assert tables.list_files(SID) == ["a.csv"]
    with client.application.app_context(), tables.writer(SID, "a.csv", on_conflict="rename") as out:
        out.write(b"x")
    assert out.info.name == "a (2).csv"


@pytest.mark.parametrize("handler", [None, FileStoreError, FileMissing])
def test_an_error_of_a_file_store_of_the_applications_own_has_an_answer(
    handler: type[Exception] | None, tmp_path: Path
) -> None:
    app = Flask(__name__)
    if handler is not None:
        app.register_error_handler(handler, lambda _: ("own", 418))
    Silo(app)
    files = FileStore(str(tmp_path / "own"))

    @app.get("/report")
    def report() -> str:
        files.backend.open(SID, "a.csv")
        return ""

    response = app.test_client().get("/report")

    assert (response.status_code, response.text) == (418, "own") if handler else response.status_code == 404


def test_a_handler_that_is_registered_after_the_file_store_wins(tmp_path: Path) -> None:
    app = Flask(__name__)
    silo = Silo(app)
    uploads = silo.add_file_store("uploads", tmp_path, routes=["download"])
    app.register_error_handler(FileStoreError, lambda _: ("own", 418))

    assert uploads.routes
    assert app.test_client().get("/api/files/uploads/a.csv").status_code == 418


def test_a_file_store_that_is_added_after_the_first_request_is_served_by_each_application(tmp_path: Path) -> None:
    silo, apps = Silo(), [Flask("a"), Flask("b")]
    silo.init_app(apps[0])
    assert apps[0].test_client().get("/api/files/first").status_code == 404
    silo.add_file_store("first", tmp_path / "first", routes=["list", "download"])
    silo.init_app(apps[1])
    silo.add_file_store("second", tmp_path / "second", routes=["list", "download"])

    for app in apps:
        for name in ("first", "second"):
            assert app.test_client().get(f"/api/files/{name}").status_code == 200
            missing = app.test_client().get(f"/api/files/{name}/a.csv")
            assert missing.get_json()["error"] == "file_missing"
