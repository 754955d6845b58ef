"""The counter, and how the examples are set up."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from demo_client import DEMO, MB, Client, create_app, silo_of

from examples import basic_app

from app import private_folder  # isort: skip

pytestmark = pytest.mark.slow


def test_counter_is_each_clients_own() -> None:
    one, two = Client(basic_app.app), Client(basic_app.app)
    assert [one.ask("POST", "/api/increment").get_json()["count"] for _ in range(3)] == [1, 2, 3]
    assert two.ask("POST", "/api/increment").get_json() == {"count": 1}
    assert one.ask("GET", "/api/count").get_json() == {"count": 3}
    assert one.ask("POST", "/api/reset").get_json() == {"count": 0}
    assert one.ask("GET", "/api/count").get_json() == {"count": 0}
    assert two.ask("GET", "/api/count").get_json() == {"count": 1}
    assert one.sid != two.sid


def test_counter_says_how_to_use_it() -> None:
    assert "curl -i -X POST http://127.0.0.1:5000/api/increment" in Client(basic_app.app).ask("GET", "/").text


def test_settings_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_MAX_UPLOAD_MB", "2")
    monkeypatch.setenv("DEMO_DATA_DIR", str(tmp_path / "there"))
    monkeypatch.setenv("SILO_TTL", "12.5")
    monkeypatch.setenv("SILO_HEADER", "X-Other")
    app = create_app()
    try:
        answer = app.test_client().get("/api/status")
        assert answer.get_json()["limits"] == {"upload_bytes": 2 * MB, "ttl": 12.5}
        assert app.test_client().post("/api/sample").headers["X-Other"]
        assert (tmp_path / "there").is_dir()
    finally:
        silo_of(app).stop()


@pytest.mark.skipif(os.name != "posix", reason="modes and owners of folders are POSIX")
def test_the_default_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = private_folder("")
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert private_folder("") == folder
    folder.chmod(0o755)
    with pytest.raises(PermissionError):
        private_folder("")
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(PermissionError):
        private_folder("")


@pytest.mark.parametrize("target", ["basic_app", "data_processor/app"])
def test_the_flask_command_finds_the_examples(target: str, tmp_path: Path) -> None:
    env = os.environ | {"DEMO_DATA_DIR": str(tmp_path)}
    path = DEMO.parent / target
    command = [sys.executable, "-m", "flask", "--app", str(path), "routes"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "/api/reset" in done.stdout
