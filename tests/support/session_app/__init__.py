"""An application whose tasks run in threads, in processes, on RQ workers and on Celery workers.

Each of its modules makes the application: ``on_sqlite`` and ``on_redis`` keep the sessions there, ``factory`` has a
``create_app()``. Environment variables name the files and servers: see ``session_workers``.
"""
