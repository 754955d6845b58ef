import os

from flask import Flask

from .making import make_app


def create_app() -> Flask:
    return make_app(__name__, os.environ["SESSIONS_ON_SQLITE"])
