"""`python -m mmfound`."""

import sys

from mmfound.cli import main

if __name__ == "__main__":
    sys.exit(main())
