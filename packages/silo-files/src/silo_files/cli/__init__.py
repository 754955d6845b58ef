"""The commands of ``python -m silo_files``, for a folder of ``LocalFileBackend``. Nothing else imports them.

============= ============================================================================
``program``   arguments, output and exit status
``folder``    a folder in which a store keeps files, and its areas
``listing``   ``usage`` and ``ls``
``fsck``      ``fsck``: walks the folder and has what it finds repaired
``findings``  what is wrong at which place: a stable code, and what a repair does
``area``      what is wrong in an area
``counts``    what is wrong with counts, and their repair
``mending``   the other repairs
``text``      sizes, times, columns, progress
============= ============================================================================
"""
