"""`python -m worker.alive`: code 0 if the worker of this container lives."""

import sys

from retouche.liveness import worker_lives
from worker.settings import Settings

if __name__ == "__main__":
    sys.exit(0 if worker_lives(Settings().redis_url) else 1)
