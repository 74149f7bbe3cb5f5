"""``python -m unistep``, the same as the command ``unistep``."""

from __future__ import annotations

import sys

from unistep.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
