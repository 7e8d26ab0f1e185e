"""`python -m labrelay`, the same as `labrelay`."""

import sys

from labrelay.cli import main

if __name__ == "__main__":
    sys.exit(main())
