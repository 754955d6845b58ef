"""A counter for each client: the smallest use of flask-silo.

Run it with ``python examples/basic_app.py`` and open http://127.0.0.1:5000, which explains the rest.
"""

from flask import Flask, Response, jsonify
from flask_silo import Silo

INDEX = """\
A counter of your own. The first response has a session id in its header X-Session-ID:

    curl -i -X POST http://127.0.0.1:5000/api/increment

Send the id back to count on, to read the counter and to reset it:

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
    """Explain how to use the counter."""
    return Response(INDEX, mimetype="text/plain")


@app.post("/api/increment")
def increment() -> Response:
    """Add one to the counter."""
    counter = silo.state("counter")
    counter["count"] += 1
    return jsonify(counter)


@app.get("/api/count")
def count() -> Response:
    """Return the counter."""
    return jsonify(silo.state("counter"))


@app.post("/api/reset")
def reset() -> Response:
    """Reset the counter to 0."""
    silo.reset_current()
    return jsonify(silo.state("counter"))


if __name__ == "__main__":
    app.run(port=5000)
