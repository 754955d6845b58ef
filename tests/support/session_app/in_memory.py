from .making import make_app

app = make_app(__name__, "memory://")
