"""With gevent's monkey patching and server, writes wait for the write lock and reads do not wait."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
from gevent import monkey; monkey.patch_all()
import json, sys, time
import gevent
from gevent.pywsgi import WSGIServer
from flask import Flask, jsonify
from flask_silo import Silo, current_task, track
import http.client

SID = "a" * 32
app = Flask("gevent")
silo = Silo(app, auto_cleanup=True, store_url=sys.argv[1], accept_client_ids=True)
silo.register("counter", lambda: {"value": 0})

@app.post("/api/increment")
def increment():
    counter = silo.state("counter")
    seen = counter["value"]
    gevent.sleep(0)  # every other greenlet runs here
    counter["value"] = seen + 1
    return jsonify(counter)

@app.get("/api/count")
def count():
    return jsonify(silo.state("counter"))

@app.post("/api/hold")
def hold():
    silo.state("counter")
    entered.set()
    leave.wait(30)
    return {}

@silo.task
def work(times):
    for _ in track(range(times)):
        gevent.sleep(0)
    return times

@app.post("/api/start")
def start():
    work.start(50)
    return {}

@app.get("/api/result")
def result():
    return {"result": work.result(30)}

from gevent.event import Event
entered, leave = Event(), Event()
server = WSGIServer(("127.0.0.1", 0), app, log=None)
server.start()

def ask(method, path):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request(method, path, headers={"X-Session-ID": SID})
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return answer.status, body

def many(_):
    for _ in range(25):
        assert ask("POST", "/api/increment")[0] == 200

gevent.joinall([gevent.spawn(many, n) for n in range(8)], raise_error=True)
holder = gevent.spawn(ask, "POST", "/api/hold")
assert entered.wait(30)
counted = ask("GET", "/api/count")
leave.set()
holder.join(30)
ask("POST", "/api/start")
print(json.dumps([counted, ask("GET", "/api/result")]))
silo.stop()
server.stop()
"""


def run(program: str, url: str) -> object:
    """Run the program and return what it prints."""
    pytest.importorskip("gevent")
    done = subprocess.run(
        [sys.executable, "-c", program, url], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_writes_reads_and_tasks_under_gevent(any_url: str) -> None:
    assert run(PROGRAM, any_url) == [[200, {"value": 200}], [200, {"result": 50}]]


IMPATIENT = """
from gevent import monkey; monkey.patch_all()
import json, random, sys
import gevent
from silo_store import SessionStore

store = SessionStore(backend=sys.argv[1])
store.register_namespace("own", lambda: {"sid": "", "value": 0})
sids = [f"{number:032d}" for number in range(8)]
acknowledged, given_up, others = [0] * 8, [0] * 8, []

def begin(state):
    return {"sid": sids[number], "value": 0}

for number in range(8):
    store.update(sids[number], "own", begin)

def one_more(state):
    gevent.sleep(0.0005)
    return {"sid": state["sid"], "value": state["value"] + 1}

def work(number):
    sid, dice = sids[number % 8], random.Random(number)
    for _ in range(60):
        try:
            with gevent.Timeout(dice.choice([0.0002, 0.001, 0.003, 5])):
                store.update(sid, "own", one_more)
                acknowledged[number % 8] += 1
                others.append(store.get(sid)["own"]["sid"] != sid)
        except gevent.Timeout:
            given_up[number % 8] += 1

gevent.joinall([gevent.spawn(work, number) for number in range(24)], raise_error=True)
for number in range(8):
    store.update(sids[number], "own", one_more)
    value = store.get(sids[number])["own"]["value"]
    assert acknowledged[number] + 1 <= value <= acknowledged[number] + given_up[number] + 1
print(json.dumps([any(others), sum(given_up) > 0, sum(acknowledged) > 0]))
"""


def test_a_timeout_may_come_anywhere_under_gevent(any_url: str) -> None:
    """In a command, in a wait for the write lock, in its release: nothing stays locked, and no reply is mixed up."""
    url = f"{any_url}?lease=1" if any_url.startswith("redis") else any_url
    assert run(IMPATIENT, url) == [False, True, True]
