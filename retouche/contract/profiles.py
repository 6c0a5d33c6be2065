"""The profiles of models that jobs and runs can name."""

from pydantic import Field

from retouche.contract.jobs import EditingParameters, GenerationParameters
from retouche.contract.payload import Payload
from retouche.contract.stages import RewardName


class DeployedProfile(Payload):
    """A profile whose models are deployed, with the values of jobs that give none of their own."""

    name: str
    generation: GenerationParameters
    editing: EditingParameters
    rewards: dict[RewardName, float] = Field(description="each one's margin: smaller differences are ties")
