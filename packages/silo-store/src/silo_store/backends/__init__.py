"""The backends ``memory``, ``sqlite`` and ``redis``, which implement ``silo_store.backend.Backend``.

``urls`` chooses one by its URL. ``packing`` lays out what SQLite and Redis keep.
"""
