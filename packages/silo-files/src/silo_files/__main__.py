"""``python -m silo_files``: look at the folder of a store, and mend it."""

import sys

from .cli.program import main

if __name__ == "__main__":
    sys.exit(main())
