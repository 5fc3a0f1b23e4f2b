"""`python -m tests.privacy.mutants`: the checks pass on our code as it is, and each mutant fails its own."""

import sys

from .running import main

sys.exit(main(sys.argv[1:]))
