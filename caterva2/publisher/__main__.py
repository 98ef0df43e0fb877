"""`python -m caterva2.publisher` is `cat2pub`."""

import sys

from caterva2.publisher.main import main

sys.exit(main())
