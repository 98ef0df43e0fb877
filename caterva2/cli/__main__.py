"""`python -m caterva2.cli` is `cat2cli`."""

import sys

from caterva2.cli.main import main

sys.exit(main())
