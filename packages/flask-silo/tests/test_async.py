"""Async views wait for the write lock like others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flask import Flask, jsonify
from flask.testing import FlaskClient
from flask_silo import Silo
from flask_silo_helpers import as_
from silo_store.testing import SID, in_threads

pytestmark = pytest.mark.slow


def test_async_views_lose_no_update(app: Flask, client: FlaskClient, silo: Silo) -> None:
    @app.post("/api/async")
    async def increment_async() -> Any:
        counter = silo.state("counter")
        seen = counter["value"]
        await asyncio.sleep(0)
        counter["value"] = seen + 1
        return jsonify(counter)

    @app.get("/api/async-edit")
    async def edit() -> Any:
        with silo.edit("counter") as counter:
            seen = counter["value"]
            await asyncio.sleep(0)
            counter["value"] = seen + 1
        return {}

    def visit(_: int) -> None:
        mine = app.test_client()
        for _ in range(25):
            assert mine.post("/api/async", headers=as_(SID)).status_code == 200
            assert mine.get("/api/async-edit", headers=as_(SID)).status_code == 200

    in_threads(4, visit)
    assert client.get("/api/count", headers=as_(SID)).json == {"value": 200}
    assert not silo.store.locks.holders
