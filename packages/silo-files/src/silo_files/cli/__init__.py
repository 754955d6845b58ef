"""The commands of ``python -m silo_files``, for a folder of ``LocalFileBackend``. Nothing else imports them.

============ ============================================================================
``program``  arguments, output and exit status
``folder``   a folder in which a store keeps files, and its areas
``listing``  ``usage`` and ``ls``
``fsck``     ``fsck`` and ``sweep``: walks the folder, repairs what it finds
``problems`` what can be wrong: a stable code, and its repair
``checks``   what is wrong at which place
``counts``   the files of counts
``mending``  the repairs
``text``     sizes, times, columns, progress
============ ============================================================================
"""
