"""Asks pyright's language server what an editor would show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import Self


class LanguageServer:
    """The language server of a project, while the context is open.

    Args:
        project: The folder of the project.
        env: The environment of the server, whose PATH leads to the project's interpreter.
    """

    def __init__(self, project: Path, env: Mapping[str, str]) -> None:
        self._project = project
        self._env = env
        self._asked = 0

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "pyright.langserver", "--stdio"]
        pipe = subprocess.PIPE
        self._server = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=dict(self._env), cwd=self._project)
        uri = self._project.as_uri()
        folders = [{"uri": uri, "name": "project"}]
        start = {"processId": os.getpid(), "rootUri": uri, "capabilities": {}, "workspaceFolders": folders}
        self._ask("initialize", start)
        self._send(method="initialized", params={})
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._ask("shutdown", None)
            self._send(method="exit")
            self._server.wait(10)
        finally:
            self._server.kill()
            self._server.communicate()

    def open(self, name: str) -> None:
        """Open a file of the project."""
        path = self._project / name
        document = {"uri": path.as_uri(), "languageId": "python", "version": 1, "text": path.read_text("utf-8")}
        self._send(method="textDocument/didOpen", params={"textDocument": document})

    def hover(self, name: str, code: str) -> str:
        """Return what is shown for the end of some code, such as ``task.start``, at its first place in a file."""
        return str(self._look("hover", name, code)["contents"]["value"])

    def signature(self, name: str, code: str) -> str:
        """Return the parameters that are shown while a call is written, such as ``task.start(``."""
        return str(self._look("signatureHelp", name, code, after=1)["signatures"][0]["label"])

    def _look(self, what: str, name: str, code: str, after: int = 0) -> Any:
        path = self._project / name
        before = path.read_text("utf-8").partition(code)[0] + code
        place = {"line": before.count("\n"), "character": len(before.rpartition("\n")[2]) - 1 + after}
        return self._ask(f"textDocument/{what}", {"textDocument": {"uri": path.as_uri()}, "position": place})

    def _ask(self, method: str, params: object) -> Any:
        self._asked += 1
        self._send(id=self._asked, method=method, params=params)
        while True:
            message = self._receive()
            if "method" not in message and message.get("id") == self._asked:
                assert "error" not in message, message
                return message["result"]
            if "method" in message and "id" in message:  # the server asks: it gets no settings
                items = message["params"]["items"] if message["method"] == "workspace/configuration" else None
                self._send(id=message["id"], result=items and [None] * len(items))

    def _send(self, **message: object) -> None:
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._server.stdin is not None
        self._server.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        self._server.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        stream, length = self._server.stdout, 0
        assert stream is not None
        while line := stream.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the language server has ended"
        message: dict[str, Any] = json.loads(stream.read(length))
        return message
