"""`python -m caterva2.broker` is `cat2bro`."""

import sys

from caterva2.broker.main import main

sys.exit(main())
