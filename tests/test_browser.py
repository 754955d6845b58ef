"""The page of the demo in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import Browser, browser, find
from demo_client import DEMO, Gate, create_app, expire_all, silo_of
from flask import Flask
from flask_silo import StoreUnavailable
from serving import served
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PROGRAM = find()
pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome on PATH, or no POSIX system to drive it"),
    pytest.mark.slow,
]
SAMPLE = DEMO / "sample" / "penguins.csv"

Open = Callable[..., tuple[Flask, Browser]]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Serve the demo with the given settings and open its page."""
    with ExitStack() as stack:

        def open_page(
            mount: Callable[[Flask], WSGIApplication] = lambda app: app, path: str = "/", **config: object
        ) -> tuple[Flask, Browser]:
            assert PROGRAM is not None
            profile = tmp_path / "browser"
            profile.mkdir()
            app = create_app(DATA_DIR=str(tmp_path / "data"), **config)
            stack.callback(silo_of(app).stop)
            port = stack.enter_context(served(mount(app)))
            page = stack.enter_context(browser(PROGRAM, profile))
            page.send("Page.navigate", url=f"http://127.0.0.1:{port}{path}")
            page.wait(shown("choose"))
            return app, page

        yield open_page


def shown(stage: str) -> str:
    return f"document.readyState === 'complete' && document.querySelector('#{stage}:not([hidden])') !== null"


def notice(text: str) -> str:
    return (
        f"!document.getElementById('notice').hidden && document.getElementById('notice').innerText.includes('{text}')"
    )


def click(page: Browser, name: str) -> None:
    page.run(f"document.getElementById('{name}').click()")


def ask(page: Browser, by: str, how: str = "count", value: str = "") -> None:
    page.wait(shown("options"))
    page.run(
        f"""by.value = "{by}"; how.value = "{how}"; how.dispatchEvent(new Event("change"));
        document.getElementById("value").value = "{value}"; question.requestSubmit()"""
    )


def reload(page: Browser) -> None:
    page.run("window.stale = true")
    page.send("Page.reload")
    page.wait("!window.stale && document.readyState === 'complete'")


def test_the_whole_way(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, "aggregate")
    app, page = opened()
    assert "Up to 100 MB" in page.text()
    page.choose_file("#file", SAMPLE)
    page.wait(shown("options"))
    assert "penguins.csv" in page.text()
    assert page.run("preview.rows.length") == 6

    ask(page, "species", "mean", "body_mass_g")
    gate.wait()
    page.wait("document.getElementById('step').textContent === 'Step 3 of 4: Aggregate'")
    assert 40 < page.run("bar.value") < 100
    assert "344 rows can be used, 0 are left out" in page.text()
    reload(page)
    page.wait(shown("running"))
    assert page.run("document.querySelectorAll('#steps .done').length") == 2

    gate.open()
    page.wait(shown("result"))
    expected = ["Mean of body_mass_g by species", "Gentoo", "5,076.01626", "344 rows in 3 groups, 2 missing values."]
    assert [text for text in expected if text not in page.text()] == []
    assert page.run("document.querySelectorAll('#chart .bar').length") == 3
    assert page.run("document.querySelector('#chart desc').textContent").startswith("3 bars. Gentoo: 5,076.01626;")
    assert page.run("[...table.rows].map((row) => row.cells[1].textContent)") == ["rows", "124", "68", "152"]
    reload(page)
    page.wait(shown("result"))
    download = "fetch(document.getElementById('download').href).then((answer) => answer.text())"
    assert page.run(download).splitlines()[1] == "Gentoo,124,5076.0162601626"
    assert page.console == []

    expire_all(app)
    click(page, "download")
    page.wait(notice("Your session has expired"))
    assert page.run("main.inert")
    page.press("Enter", 13)  # The notice's button has the focus.
    page.wait(shown("choose"))
    assert page.run("notice.hidden && !main.inert")
    click(page, "sample")
    page.wait(shown("options"))


PREFIX = "/tools/demo"


def mounted(app: Flask) -> WSGIApplication:
    """The demo is one of several applications of a server."""
    return DispatcherMiddleware(NotFound(), {PREFIX: app})


def behind_a_proxy(app: Flask) -> WSGIApplication:
    """The demo is behind a proxy that removes the prefix and sends it in a header."""
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    return stripped(app, {"HTTP_X_FORWARDED_PREFIX": PREFIX})


def stripped(app: Flask, names: dict[str, str] | None = None) -> WSGIApplication:
    """The demo is behind a proxy that removes the prefix and sends no header."""

    def proxy(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path != PREFIX and not path.startswith(f"{PREFIX}/"):
            return NotFound()(environ, start_response)
        return app({**environ, "PATH_INFO": path[len(PREFIX) :], **(names or {})}, start_response)

    return proxy


@pytest.mark.parametrize(
    ("mount", "entrance"),
    [(mounted, "/"), (mounted, ""), (behind_a_proxy, "/"), (behind_a_proxy, ""), (stripped, "/")],
)
def test_the_way_below_a_path_prefix(
    mount: Callable[[Flask], WSGIApplication], entrance: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, "aggregate")
    _, page = opened(mount, PREFIX + entrance)
    assert page.run("location.pathname") == f"{PREFIX}/"
    page.choose_file("#file", SAMPLE)
    ask(page, "island")
    gate.wait()
    page.wait(shown("running"))
    reload(page)
    page.wait(shown("running"))
    gate.open()
    page.wait(shown("result"))
    assert page.run("document.querySelectorAll('#chart .bar').length") == 3
    download = "fetch(document.getElementById('download').href).then((answer) => answer.text())"
    assert page.run(download).splitlines()[1] == "Biscoe,168"
    asked = page.run("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).pathname)")
    assert {f"{PREFIX}/static/style.css", f"{PREFIX}/static/chart.js", f"{PREFIX}/api/task"} <= set(asked)
    assert [path for path in asked if not path.startswith(f"{PREFIX}/")] == []
    click(page, "reset")
    page.wait(shown("choose"))
    assert page.console == []


def test_cancel_and_ask_again(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, "aggregate")
    _, page = opened()
    click(page, "sample")
    ask(page, "island", "mean", "year")
    gate.wait()
    page.wait(shown("running"))
    page.wait("document.getElementById('log').textContent")
    click(page, "cancel")
    page.wait(notice("Cancelled"))
    asked = "[by.value, how.value, document.getElementById('value').value]"
    assert page.run(asked) == ["island", "mean", "year"], "the user need not choose again"
    gate.open()
    ask(page, "island")
    page.wait(shown("result"))
    assert page.run("notice.hidden")
    click(page, "again")
    page.wait(shown("options"))
    assert page.run(asked)[:2] == ["island", "count"]
    page.run("by.value = 'year'; question.requestSubmit()")
    page.wait(shown("result"))
    click(page, "reset")
    page.wait(shown("choose"))
    click(page, "sample")
    page.wait(shown("options"))
    assert page.run(asked)[:2] == ["species", "count"], "another file, another question"


def test_large_numbers_of_a_message_can_be_read(opened: Open) -> None:
    _, page = opened()
    page.wait(shown("choose"))
    said = "Row 1433543 of about 2000002 of 2026"
    found = page.run(f"import('/static/format.js').then((module) => module.readable('{said}'))")
    assert found == "Row 1,433,543 of about 2,000,002 of 2026"


def test_what_is_wrong_with_a_file_is_said(opened: Open, tmp_path: Path) -> None:
    _, page = opened(MAX_UPLOAD_MB=0.1)
    file = tmp_path / "file.csv"
    for data, said in (
        (b"", "The file is empty."),
        (b"\0\1\2", "This is not a text file."),
        (b'a,b\n"1,2\n', "Line 2 has a quotation mark that is never closed"),
        (b"a,b\n" + b"x,1\n" * 30_000, "Up to 102 KB can be uploaded."),
    ):
        file.write_bytes(data)
        page.choose_file("#file", file)
        page.wait(notice(said))
        page.run("document.getElementById('notice-button').click()")
    file.write_bytes(b"<b>a</b>,b\n<img src=x>,\n")
    page.choose_file("#file", file)
    ask(page, "<b>a</b>", "sum", "b")
    page.wait(notice("The column “b” has no numbers."))
    ask(page, "<b>a</b>")
    page.wait(shown("result"))
    assert page.run("document.querySelectorAll('main img, main b:not(.drop b, #source-name)').length") == 0
    assert "Number of rows by <b>a</b>" in page.text()


def test_how_a_file_is_read_is_shown_and_can_be_chosen(opened: Open, tmp_path: Path) -> None:
    _, page = opened()
    file = tmp_path / "file.csv"
    file.write_bytes("Stadt;Einwohner\nKöln;331.885\nUlm;128.928\n".encode("cp1252"))
    page.choose_file("#file", file)
    page.wait(shown("options"))
    chosen = """["delimiter", "decimal", "thousands", "header", "encoding"].map(
        (name) => document.getElementById(`read-${name}`).selectedOptions[0].text)"""
    cells = "[...document.querySelectorAll('#preview td')].map((cell) => cell.textContent)"
    assert page.run(chosen) == ["semicolon", "point", "none", "line 1", "Western (cp1252)"]
    assert page.run(cells) == ["Köln", "331.885", "Ulm", "128.928"]
    assert "can be a decimal mark or a thousands mark" in page.text()

    choose = """(name, value) => {
        const control = document.getElementById(`read-${name}`);
        control.value = value;
        control.dispatchEvent(new Event("change"));
    }"""
    page.run("how.value = 'sum'; how.dispatchEvent(new Event('change'))")
    page.run(f"({choose})('thousands', '.')")
    page.wait("document.getElementById('notes').textContent.indexOf('ambiguous') < 0")
    assert page.run(chosen)[1:3] == ["comma", "point"]
    assert page.run("how.value") == "sum", "the question stays"
    page.run(f"({choose})('encoding', 'cp1251')")
    page.wait(f"{cells}[0] === 'Kцln'")
    page.run(f"({choose})('header', 3)")
    page.wait(notice("no rows below line 3"))
    assert page.run(chosen)[3] == "line 1", "what did not work is not shown as chosen"

    click(page, "read-undo")
    page.wait(f"{cells}[0] === 'Köln' && document.getElementById('read-undo').hidden")
    page.run(f"({choose})('thousands', '.')")
    page.wait("!document.getElementById('read-undo').hidden")
    reload(page)
    page.wait(shown("options"))
    assert page.run(chosen)[1:3] == ["comma", "point"], "what was chosen is kept"
    ask(page, "Stadt", "sum", "Einwohner")
    page.wait(shown("result"))
    assert "331,885" in page.text()


def test_choices_made_while_the_page_waits_are_not_lost(opened: Open, tmp_path: Path) -> None:
    _, page = opened()
    file = tmp_path / "file.csv"
    file.write_bytes(b"a;b\nx;1.5\n")
    page.choose_file("#file", file)
    page.wait(shown("options"))
    values = "['encoding', 'decimal', 'header'].map((name) => document.getElementById(`read-${name}`).value)"

    page.run("""for (const [name, value] of [["encoding", "cp1251"], ["decimal", ","], ["header", "0"]]) {
        const control = document.getElementById(`read-${name}`);
        control.value = value;
        control.dispatchEvent(new Event("change"));
    }""")

    page.wait("document.getElementById('preview').innerText.includes('Column 1')")
    assert page.run(values) == ["cp1251", ",", "0"]


def test_a_separator_that_is_not_offered_is_shown(opened: Open, tmp_path: Path) -> None:
    _, page = opened()
    file = tmp_path / "file.csv"
    file.write_bytes(b"sep=#\na#b\n1#2\n")
    page.choose_file("#file", file)
    page.wait(shown("options"))
    assert page.run("document.getElementById('read-delimiter').value") == "#"
    file.write_bytes(b"a,b\n1,2\n")
    page.choose_file("#file", file)
    page.wait("document.getElementById('read-delimiter').value === ','")
    assert page.run("document.getElementById('read-delimiter').options.length") == 5


def test_digits_are_shown_as_they_are(opened: Open) -> None:
    _, page = opened()
    said = page.run(
        """import('/static/format.js').then(({ format, rounded }) => [
            format(1700000000456), format("9007199254740993"), format("12345678901234567890.12"), format(0.1234567891),
            rounded(3700.66225165563), rounded(1700000000289.5), rounded(1.5e-9), format(null)])"""
    )
    assert said == [
        *("1,700,000,000,456", "9,007,199,254,740,993", "12,345,678,901,234,567,890.12", "0.1234567891"),
        *("3,700.662252", "1,700,000,000,289.5", "0.0000000015", "\u2013"),
    ]


def test_an_idle_page_says_when_its_session_is_over(opened: Open) -> None:
    _, page = opened(SILO_TTL=4)  # longer than one request takes on a busy machine
    click(page, "sample")
    page.wait(notice("Your session has expired"))


def test_a_server_that_forgot_the_session_or_is_gone(opened: Open) -> None:
    app, page = opened()
    click(page, "sample")
    page.wait(shown("options"))
    silo = silo_of(app)
    silo.store.destroy(page.run("sessionStorage.getItem('silo-session')"))  # unknown, as after a restart
    reload(page)
    page.wait(notice("Your session has expired"))
    page.run("document.getElementById('notice-button').click()")
    page.send("Network.enable")
    page.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    click(page, "sample")
    page.wait(notice("The server cannot be reached"))
    page.choose_file("#file", SAMPLE)
    page.wait(notice("The server cannot be reached"))


def test_a_stream_goes_on_once_the_sessions_can_be_reached_again(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, "aggregate")
    app, page = opened()
    click(page, "sample")
    ask(page, "island")
    gate.wait()
    page.wait(shown("running"))

    def away() -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setitem(app.view_functions, "task", away)
        page.wait(notice("The server is not responding"))
        gate.open()
    page.wait(shown("result"))
    assert page.run("notice.hidden")


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_nothing_is_wider_than_the_window(opened: Open, width: int) -> None:
    _, page = opened()
    page.send("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert page.run(fits)
    click(page, "sample")
    page.wait(shown("options"))
    assert page.run(fits)
    ask(page, "island", "sum", "flipper_length_mm")
    page.wait(shown("result"))
    assert page.run(fits)
    inside = "document.getElementById('chart').firstChild.getBoundingClientRect().right <= innerWidth"
    page.wait(inside)
