"""The editor of the profile, and requests completed with its values."""

from retouche.contract.stages import EditRequest
from retouche.profile import EditingProfile
from services.editing import controlnet, instruct_pix2pix
from services.editing.editor import Editor

_PARAMETERS = (
    "num_inference_steps",
    "guidance_scale",
    "image_guidance_scale",
    "strength",
    "controlnet_conditioning_scale",
)


def load(profile: EditingProfile) -> Editor:
    """The editor that the profile names."""
    if profile.editor == "instruct_pix2pix":
        return instruct_pix2pix.load(profile)
    return controlnet.load(profile)


def resolved(request: EditRequest, profile: EditingProfile) -> EditRequest:
    """The request with the profile's values where it names none."""
    missing = [name for name in _PARAMETERS if getattr(request, name) is None]
    return request.model_copy(update={name: getattr(profile, name) for name in missing})


def text_for(request: EditRequest, profile: EditingProfile) -> str:
    """What the editor is told."""
    return profile.text.replace("{instruction}", request.instruction.text).replace("{prompt}", request.prompt)
