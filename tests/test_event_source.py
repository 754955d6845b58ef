"""A page reads the stream of its tasks with EventSource."""

from __future__ import annotations

import queue
import re
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from browser import browser, find
from flask import Flask
from flask_silo import Silo, current_task
from flask_silo.tasks.events import StreamTiming
from pages import ROOT, blocks
from servers import until
from serving import served
from silo_store.testing import SID, TTL, Clock

pytestmark = pytest.mark.slow

PROGRAM = find()
PAGE = """<!doctype html><title>Tasks</title><link rel="icon" href="data:,"><body><script>
const told = [];
let source, opened = 0;
async function start() {
  const answer = await fetch("/api/start", { method: "POST" });
  source = new EventSource(`/api/tasks/events?_sid=${answer.headers.get("X-Session-ID")}`);
  source.onopen = () => { opened += 1; };
  source.addEventListener("task", (event) => told.push(JSON.parse(event.data)));
}
start();
</script>"""


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome on PATH, or no POSIX system to drive it")
@pytest.mark.parametrize("most", [None, 0], ids=["open", "polling"])
def test_a_page_sees_a_task_from_its_start_to_its_end(most: int | None, tmp_path: Path) -> None:
    assert PROGRAM is not None
    app = Flask("page")
    silo = Silo(app, max_streams=most)
    silo.binding.task_views.timing = StreamTiming(retry=0.2, poll=0.2)
    words: queue.Queue[str] = queue.Queue()

    @silo.task
    def listen() -> None:
        task = current_task()
        assert task is not None
        while (word := words.get(timeout=60)) != "end":
            task.log(word)

    @app.post("/api/start")
    def start() -> Any:
        listen.start()
        return {}

    @app.get("/")
    def page() -> str:
        return PAGE

    with served(app) as port, browser(PROGRAM, tmp_path) as tab:
        tab.send("Page.navigate", url=f"http://127.0.0.1:{port}/")
        tab.wait("typeof told !== 'undefined' && told.length > 0")
        assert tab.run("told[0].name") == "listen"
        words.put("hello")
        tab.wait("told.at(-1).last_seq === 1")
        before = tab.run("opened")
        if most == 0:
            tab.wait(f"opened > {before}")
        else:
            assert before == 1
        words.put("end")
        tab.wait("told.at(-1).complete")
        tab.wait("source.readyState === EventSource.CLOSED")
        logs = tab.run("told.map((state) => state.logs.join())")
        assert logs == sorted(logs), "nothing was told again"
        assert tab.run("told.filter((state) => !state.running).length") == 1
        assert tab.console == []
    silo.stop()


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome on PATH, or no POSIX system to drive it")
def test_a_browser_asks_again_for_what_was_gone(tmp_path: Path) -> None:
    assert PROGRAM is not None
    clock = Clock()
    app = Flask("page")
    silo = Silo(app, clock=clock, ttl=TTL, auto_cleanup=False, accept_client_ids=True)

    @silo.task
    def work() -> None: ...

    @app.post("/api/start")
    def start() -> Any:
        work.start()
        return {}

    with served(app) as port, browser(PROGRAM, tmp_path) as tab:

        def ask(method: str, path: str) -> int:
            headers = f"{{'X-Session-ID': '{SID}'}}"
            status: int = tab.run(f"fetch('{path}', {{method: '{method}', headers: {headers}}}).then((a) => a.status)")
            return status

        tab.send("Page.navigate", url=f"http://127.0.0.1:{port}/api/tasks/work")
        tab.wait("document.body.innerText.includes('idle')")
        ask("POST", "/api/start")
        uid = silo.store.uid(SID) or ""
        until(lambda: not silo.store.backend.held(uid), "the session is held for ever")
        clock.advance(TTL + 1)
        assert ask("GET", "/api/tasks/work") == 410
        assert ask("POST", "/api/start") == 200
        assert ask("GET", "/api/tasks/work") == 200
    silo.stop()


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome on PATH, or no POSIX system to drive it")
def test_the_page_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PROGRAM is not None
    monkeypatch.chdir(tmp_path)
    guide = ROOT / "packages" / "flask-silo" / "GUIDE.md"
    scope: dict[str, Any] = {"__name__": "guide"}
    for block in takewhile(lambda block: "test_client" not in block, blocks(guide)):
        exec(compile(block, str(guide), "exec", dont_inherit=True), scope)
    text = guide.read_text(encoding="utf-8")
    functions = re.findall(r"^```js\n(.*?)^```$", text, re.S | re.M)
    script = "\n".join([*functions, "window.told = [];", "await start((state) => told.push(state));"])

    @scope["app"].get("/")  # type: ignore[untyped-decorator]
    def page() -> str:
        return f'<!doctype html><link rel="icon" href="data:,"><body><script type="module">{script}</script>'

    with served(scope["app"]) as port, browser(PROGRAM, tmp_path) as tab:
        tab.send("Page.navigate", url=f"http://127.0.0.1:{port}/")
        tab.wait("window.told?.at(-1) === null")
        assert tab.run("told.at(-2)")["status"] == "succeeded"
        assert tab.run("sessionStorage.getItem('sid')")
        assert tab.console == []
    scope["silo"].stop()
