"""The exact checker as a truth for `retouche evaluate --truth shapes.truth:score`."""

import numpy as np

from retouche.images import decode
from shapes.check import check


def score(image: bytes, prompt: str) -> float:
    """The share of the prompt's clauses that hold in an encoded image.

    Raises:
        NotOfThisWorld: the prompt does not follow the grammar.
    """
    return check(np.asarray(decode(image)), prompt).score
