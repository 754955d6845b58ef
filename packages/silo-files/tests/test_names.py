"""Which keys and names are accepted, which are refused, and what the error says."""

from __future__ import annotations

import contextlib
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from silo_files import MAX_KEY_LENGTH, FileStore, InvalidFileName, InvalidKey, check_key, check_name, portable_names
from silo_files.errors import FileStoreError
from silo_files.names import hash_key, hash_name

REFUSED = [
    "", ".", "..", "...", " ", ". .", "\u3000", "a/b", "a\\b", "/", "../a", "a\0", "a\r\nb", "\x1b[31m", "\x7f", "\x85",
    "a\u202egpj.exe", "\u2066a", "a\u200f", "\u061ca", "a\u2028b", "a\ud800", "\udc80", "x" * 256, "\u00fc" * 128,
    "x" * 100_000, "CON", "con", "nul.txt", "NUL .txt", "COM1", "com1.tar.gz", "LPT9.csv", "COM\u00b9", "CONIN$",
    "aux:x", "a.", "a ", "a. ", "a .", " a", "\u00a0a", "\u3000a", "a\u00a0", "a\u2003", "a\u200bb.txt", "..\u200b",
    "\ufeffx", "a\u00adb", "\u2060a", "\u180ea", "x\U000e0041", "\ufe0f", "..\ufe0f", "\u3164", "\u115f\u1160",
    "\uffa0", "\u2800", "\u200d", "\u200c .", "\u034f", "\U000e0100", "\U000e007f", "\u206a", "\ufff9",
    "\U0001f3f4\U000e0067", "\U0001f3f4\U000e007f", "\U0001f3f4" + "\U000e0061" * 7 + "\U000e007f",
]  # fmt: skip
ACCEPTED = [
    "a", "report.xlsx", ".bashrc", "..a", "a..b", "\u00fcber.csv", "\U0001f469\u200d\U0001f680.png", "\u65e5\u672c.txt",
    "\u0639\u0631\u0628\u064a.pdf", "a b (1).csv", "x" * 255, "console.txt", "COM10", "CONx", "nul_1.txt", "C: x",
    "\u2764\ufe0f.png", "1\ufe0f\u20e3.txt", "\U0001f1e9\U0001f1ea.svg",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.txt",
    "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f.svg", "a\u00a0b", "\ud55c\uae00.hwp",
    "%2e%2e%2f", "-rf", "*?", "'; DROP TABLE", "names", "w-0123456789abcdef",
]  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_names(name: str) -> None:
    with pytest.raises(InvalidFileName) as caught:
        check_name(name)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FileStoreError)
    text = str(caught.value)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 120


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_names(name: str) -> None:
    assert check_name(name) == name


def test_two_spellings_of_one_name_are_one_name() -> None:
    assert check_name("u\u0308.txt") == check_name("\u00fc.txt") == "\u00fc.txt"


def test_a_refused_name_is_not_in_the_error() -> None:
    with pytest.raises(InvalidFileName) as caught:
        check_name("secret/plan")
    assert "secret" not in str(caught.value)
    assert "U+002F" in str(caught.value)


@pytest.mark.parametrize("name", [None, 5, b"a", ["a"], Path("a")])
def test_names_are_str(name: object) -> None:
    with pytest.raises(InvalidFileName):
        check_name(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["", "a\0", "\ud800", "x" * (MAX_KEY_LENGTH + 1), None, b"a", 7])
def test_refused_keys(key: str, tmp_path: Path) -> None:
    store = FileStore(tmp_path / "base")
    with pytest.raises(InvalidKey) as caught:
        check_key(key)
    assert isinstance(caught.value, ValueError)
    for call in (store.session_dir, store.list_files, store.cleanup, store.cleanup_key, store.usage, store.files):
        with pytest.raises(InvalidKey):
            call(key)


@pytest.mark.parametrize("key", ["a", "x" * MAX_KEY_LENGTH, "with space", "\U0001f600", "line\nbreak"])
def test_accepted_keys(key: str) -> None:
    assert check_key(key) == key


def test_a_refused_key_is_not_in_the_error() -> None:
    with pytest.raises(InvalidKey) as caught:
        check_key("secret\0")
    assert "secret" not in str(caught.value)


@pytest.mark.slow
@settings(deadline=None)
@given(st.text())
def test_every_accepted_name_has_a_plain_name_on_disk(name: str) -> None:
    try:
        passed = check_name(name)
    except InvalidFileName:
        return
    assert check_name(passed) == passed
    assert re.fullmatch(r"[0-9a-f]{32}(\.[a-z0-9]{1,16})?", hash_name(passed))


@settings(deadline=None)
@given(st.text(min_size=1, max_size=50))
def test_every_key_has_a_plain_folder(key: str) -> None:
    try:
        passed = check_key(key)
    except InvalidKey:
        return
    assert re.fullmatch(r"[0-9a-f]{64}", hash_key(passed))


@pytest.mark.parametrize(
    ("name", "extension"),
    [
        ("a.csv", ".csv"), ("a.CSV", ".csv"), ("a.tar.gz", ".gz"), ("a", ""), (".bashrc", ""), ("a.b c", ""),
        ("a.\u00fc", ""), ("a.\u0661", ""), ("a." + "x" * 16, "." + "x" * 16), ("a." + "x" * 17, ""),
    ],
)  # fmt: skip
def test_only_harmless_extensions_are_kept(name: str, extension: str) -> None:
    assert hash_name(name)[32:] == extension


@pytest.mark.parametrize(
    ("name", "portable"),
    [
        ("a:b.txt", "a_b.txt"), ("<b>.csv", "_b_.csv"), ("*?", "__"), ('say "hi" | no.md', "say _hi_ _ no.md"),
        ("C: x", "C_ x"), ("Pinguine \U0001f427.csv", "Pinguine \U0001f427.csv"), ("a.", "a_"), ("a. .", "a_"),
        ("", "_"), ("a/b\\c", "a_b_c"),
        ("NUL.txt", "_NUL.txt"), ("com1", "_com1"), ("a\r\n\0b", "a___b"), ("a\ud800", "a_"),
        ("CON?", "CON_"), (".bashrc", ".bashrc"), ("..", "_"), ("x" * 300 + ".csv", "x" * 251 + ".csv"),
        ("x" * 300, "x" * 255), ("x" * 100 + "." + "y" * 200, "x" * 100 + "." + "y" * 154),
        ("\u00fc" * 200 + ".csv", "\u00fc" * 125 + ".csv"), ("x" * 250 + " .y.csv", "x" * 250 + ".csv"),
    ],
)  # fmt: skip
def test_what_windows_refuses_is_replaced(name: str, portable: str) -> None:
    assert portable_names([name]) == {name: portable}


def test_portable_names_stay_distinct() -> None:
    names = ["a:b.txt", "a_b.txt", "a?b.txt", "A_B.TXT", "a_b (2).txt", "x" * 255, "X" * 255, ".b:", ".b?", "a:b.txt"]
    assert list(portable_names(names).items()) == [
        ("a:b.txt", "a_b (3).txt"),
        ("a_b.txt", "a_b.txt"),
        ("a?b.txt", "a_b (4).txt"),
        ("A_B.TXT", "A_B (2).TXT"),
        ("a_b (2).txt", "a_b (2) (2).txt"),
        ("x" * 255, "x" * 255),
        ("X" * 255, "X" * 251 + " (2)"),
        (".b:", ".b_"),
        (".b?", ".b_ (2)"),
    ]


def test_very_many_names_that_become_alike() -> None:
    names = ["".join(signs) for signs in itertools.product(':?*<>|"', repeat=4)]
    assert len({portable.casefold() for portable in portable_names(names).values()}) == len(names)


@settings(deadline=None)
@given(st.lists(st.sampled_from(ACCEPTED) | st.text('aA._:?*<>|"\u00e4\u00c4\u00df ()2', max_size=6)))
def test_portable_names_can_be_saved_anywhere(given_names: list[str]) -> None:
    names = []
    for name in given_names:
        with contextlib.suppress(InvalidFileName):
            names.append(check_name(name))
    found = portable_names(names)
    assert list(found) == list(dict.fromkeys(names))
    assert len({portable.casefold() for portable in found.values()}) == len(found)
    for portable in found.values():
        assert check_name(portable) == portable
        assert not set(portable) & set('<>:"/\\|?*')
    assert portable_names(found.values()) == {portable: portable for portable in found.values()}
