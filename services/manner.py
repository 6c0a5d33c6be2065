"""How a service uses its model, for memo keys: the same weights answer otherwise in another manner."""

import json

from retouche.contract.payload import ModelIdentity
from retouche.profile import ModelChoice


def manner(choice: ModelChoice, *fields: str) -> ModelIdentity:
    """The precision, and the other fields of the profile's choice that its answers depend on.

    Not those that name the weights, which are the model's identity, nor those that only fill in a request.
    """
    used = {name: getattr(choice, name) for name in ("dtype", *fields)}
    return ModelIdentity(id="manner", revision=json.dumps(used))
