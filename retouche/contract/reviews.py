"""What people decide about pairs: accept, reject or flip. A decision stands beside its pair, never in it."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from retouche.contract.payload import Frozen, Payload
from retouche.contract.stages import ShortText

Decision = Literal[
    "accept",
    "reject",
    "flip",  # the rejected image is the better one
    "withdraw",  # the pair counts as never reviewed again
]

# Which pairs are exported or trained on. "all": as curated, whatever was decided. "not_rejected": without the
# rejected ones. "only": those accepted or flipped. The last two swap the images of a flipped pair.
Reviewed = Literal["all", "not_rejected", "only"]

PairId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{1,64}$")]


class ReviewRequest(Payload):
    """A decision about one pair, and whose it is."""

    decision: Decision
    reviewer: ShortText = Field(description="who decides, as it should stand in the record")


class Review(Frozen):
    """A decision as recorded. The newest one of a pair counts; none is ever changed."""

    pair: PairId
    decision: Decision
    reviewer: ShortText
    at: datetime
