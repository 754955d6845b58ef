"""Clients whose tasks run in threads, in processes, and on workers of RQ and Celery."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from servers import RedisServer
from session_workers import ENGINES, KINDS, REMOTE, VARIABLES, Scene, Web, web_of


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("session-workers")
    with RedisServer(folder / "redis") as redis:
        scene = Scene(folder, redis)
        before = {name: os.environ.pop(name, None) for name in VARIABLES}
        os.environ.update(scene.env)
        try:
            yield scene
        finally:
            for worker in scene.workers.values():
                worker.kill()
            runners = sys.modules.get("session_app.runners")
            if runners is not None:
                for runner in runners.RUNNERS.values():
                    runner.shutdown(5)
                runners.celery.close()
                runners.redis.close()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


@pytest.fixture(params=["on_sqlite", "on_redis"])
def module(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=KINDS)
def web(request: pytest.FixtureRequest, scene: Scene, module: str) -> Web:
    """A client whose tasks run in each place."""
    return web_of(scene, module, request.param)


@pytest.fixture(params=REMOTE)
def far(request: pytest.FixtureRequest, scene: Scene, module: str) -> Web:
    """A client whose tasks run in other processes."""
    return web_of(scene, module, request.param)


@pytest.fixture(params=ENGINES)
def queued(request: pytest.FixtureRequest, scene: Scene, module: str) -> Web:
    """A client whose tasks wait in a queue that has no worker."""
    return web_of(scene, module, f"waits-{request.param}")
