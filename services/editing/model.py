"""The editor of the profile, who it is, and requests completed with its values."""

from collections.abc import Callable, Mapping

from PIL import Image

from retouche.contract.payload import ModelIdentity
from retouche.contract.stages import EditRequest
from retouche.errors import BadImage, FieldProblem, InvalidPayload
from retouche.identity import identify, together
from retouche.profile import EditingProfile, located
from services.editing import controlnet, flux_kontext, instruct_pix2pix, qwen_image_edit
from services.editing.editor import Editor

MIN_SIDE = 16  # pixels
_EDITORS: Mapping[str, Callable[[EditingProfile], Editor]] = {
    "controlnet_ip2p": controlnet.load,
    "controlnet_ip2p_img2img": controlnet.load_img2img,
    "instruct_pix2pix": instruct_pix2pix.load,
    "qwen_image_edit": qwen_image_edit.load,
    "flux_kontext": flux_kontext.load,
}
_PARAMETERS = (
    "num_inference_steps",
    "guidance_scale",
    "image_guidance_scale",
    "strength",
    "controlnet_conditioning_scale",
)


def load(profile: EditingProfile) -> Editor:
    """The editor that the profile names.

    Raises:
        ModelFailure: its weights are not those of such an editor; says which and why.
    """
    return _EDITORS[profile.editor](profile)


def identity(profile: EditingProfile) -> ModelIdentity:
    """Who edits: the base model, and the ControlNet on it, if any."""
    base = identify(located(profile.model), profile.revision)
    if profile.controlnet is None:
        return base
    return together(base, identify(located(profile.controlnet), profile.controlnet_revision))


def resolved(request: EditRequest, profile: EditingProfile) -> EditRequest:
    """The request with the profile's values where it names none.

    Raises:
        InvalidPayload: `strength` leaves not one of the steps.
    """
    missing = [name for name in _PARAMETERS if getattr(request, name) is None]
    complete = request.model_copy(update={name: getattr(profile, name) for name in missing})
    steps, strength = complete.num_inference_steps or 0, complete.strength or 0.0
    if profile.editor == "controlnet_ip2p_img2img" and int(steps * strength) < 1:
        problem = f"{strength} of {steps} steps is less than one step; raise strength or num_inference_steps"
        raise InvalidPayload(f"strength: {problem}", fields=[FieldProblem(field="strength", problem=problem)])
    return complete


def require_size(image: Image.Image, profile: EditingProfile) -> None:
    """Nothing, where the editor can take an image of this size.

    Raises:
        BadImage: it cannot.
    """
    if min(image.size) < MIN_SIDE or max(image.size) > profile.max_side:
        problem = (
            f"has {image.width} x {image.height} pixels; an image to be edited here has {MIN_SIDE} to "
            f"{profile.max_side} a side: resize it, or raise editing.max_side in the profile"
        )
        raise BadImage(f"image: {problem}", fields=[FieldProblem(field="image", problem=problem)])


def text_for(request: EditRequest, profile: EditingProfile) -> str:
    """What the editor is told."""
    return profile.text.replace("{instruction}", request.instruction.text).replace("{prompt}", request.prompt)
