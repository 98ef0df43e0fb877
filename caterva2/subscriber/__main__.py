"""`python -m caterva2.subscriber` is `cat2sub`."""

import sys

from caterva2.subscriber.main import main

sys.exit(main())
