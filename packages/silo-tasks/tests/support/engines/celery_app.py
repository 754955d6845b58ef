"""The application that Celery workers of the tests load."""

from __future__ import annotations

import json
import os
import ssl

from celery import Celery
from silo_tasks.runners.celery import CeleryRunner


def make_app(url: str) -> Celery:
    app = Celery("engines", broker=url, set_as_current=False)
    app.conf.broker_connection_retry_on_startup = True
    return app


if "ENGINE_URL" in os.environ:
    app = make_app(os.environ["ENGINE_URL"])
    app.conf.result_backend = os.environ.get("ENGINE_BACKEND")
    app.conf.accept_content = [os.environ.get("ENGINE_ACCEPTS", "json")]
    app.conf.update(json.loads(os.environ.get("ENGINE_CONF", "{}")))
    if authority := os.environ.get("ENGINE_CA"):
        app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": authority}
    runner = CeleryRunner(app)
