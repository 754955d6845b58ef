import os

from .making import make_app

app = make_app(__name__, os.environ["SESSIONS_ON_REDIS"])
