"""Uploads to a full disk are answered with 507, on each kind of server, which goes on."""

from __future__ import annotations

from pathlib import Path

import full_disk_server
import pytest
from app_servers import SERVERS
from small_disk import run_on_small_disk

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("server", SERVERS)
def test_a_full_disk(tmp_path: Path, server: str) -> None:
    run_on_small_disk(Path(full_disk_server.__file__), server, tmp_path)
