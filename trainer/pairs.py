"""A preference pair as the trainer needs it, whatever source it came from."""

from dataclasses import dataclass

from retouche.contract.payload import ImageRef


@dataclass(frozen=True)
class TrainingPair:
    """Two images in the object store and the prompt under which `chosen` is the better one."""

    id: str
    prompt: str
    chosen: ImageRef
    rejected: ImageRef
