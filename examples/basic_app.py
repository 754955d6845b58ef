"""A counter for each client: the smallest use of flask-silo.

Run it with ``python examples/basic_app.py`` and follow what its first page says.
"""

from flask import Flask, Response, jsonify
from flask_silo import Silo

INDEX = """\
A counter of your own. The first answer has a session id in its header X-Session-ID:

    curl -i -X POST http://127.0.0.1:5000/api/increment

Send it back to go on counting, to look, and to begin again:

    curl -X POST -H "X-Session-ID: <the id>" http://127.0.0.1:5000/api/increment
    curl -H "X-Session-ID: <the id>" http://127.0.0.1:5000/api/count
    curl -X POST -H "X-Session-ID: <the id>" http://127.0.0.1:5000/api/reset

Without the id you are a new client, with a counter at 0.
"""

app = Flask(__name__)
silo = Silo(app)
silo.register("counter", lambda: {"count": 0})


@app.get("/")
def index() -> Response:
    """Say how to use it."""
    return Response(INDEX, mimetype="text/plain")


@app.post("/api/increment")
def increment() -> Response:
    """Count one more."""
    counter = silo.state("counter")
    counter["count"] += 1
    return jsonify(counter)


@app.get("/api/count")
def count() -> Response:
    """Look at the counter."""
    return jsonify(silo.state("counter"))


@app.post("/api/reset")
def reset() -> Response:
    """Begin again at 0."""
    silo.reset_current()
    return jsonify(silo.state("counter"))


if __name__ == "__main__":
    app.run(port=5000)
