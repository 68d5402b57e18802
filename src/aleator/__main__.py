"""``python -m aleator`` is ``aleator``."""

import sys

from aleator.cli import main

sys.exit(main())
