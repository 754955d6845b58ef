"""An application whose tasks run in threads, in processes, on RQ workers and on Celery workers.

Each of its modules is the application once more: `on_sqlite` and `on_redis` with their sessions there, `factory` with a
``create_app()``. The environment says where: see ``session_workers``.
"""
