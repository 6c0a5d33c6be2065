"""Every editor on a small pipeline of its published kind: real classes, random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration

from retouche.contract.stages import EditInstruction, EditRequest
from retouche.errors import BadRequest, Conflict, InvalidPayload, ModelFailure
from retouche.profile import EditingProfile
from services.editing import model, qwen_image_edit
from services.editing.editor import Edit, Editor
from tests.services.published import pictures
from tests.services.small_pipelines import (
    write_controlnet,
    write_flux_kontext,
    write_instruct_pix2pix,
    write_qwen_image_edit,
    write_stable_diffusion,
)

WIDE = pictures()[0]
EDITORS = (
    "controlnet_ip2p",
    "controlnet_ip2p_img2img",
    "instruct_pix2pix",
    "flux_kontext",
    "qwen_image_edit",
)
ON_UNETS = EDITORS[:3]


def profile_of(editor: str, folder: Path) -> EditingProfile:
    """A small pipeline and the profile that names it."""
    steps = 2 if editor in ON_UNETS else 1  # the others draw a megapixel
    names = {"editor": editor, "num_inference_steps": steps, "guidance_scale": 2.5, "max_batch": 2}
    if editor.startswith("controlnet"):
        base = write_stable_diffusion(folder / "base")
        names |= {"model": base, "controlnet": write_controlnet(folder / "controlnet", base)}
    else:
        write = {
            "instruct_pix2pix": write_instruct_pix2pix,
            "flux_kontext": write_flux_kontext,
            "qwen_image_edit": write_qwen_image_edit,
        }[editor]
        names["model"] = write(folder / editor)
    return EditingProfile.model_validate(names)


def edit_of(
    profile: EditingProfile,
    seed: int = 0,
    text: str = "make it red",
    image: Image.Image = WIDE,
    adapter: str | None = None,
) -> Edit:
    request = EditRequest(
        prompt="a red circle",
        image="sha256:" + "0" * 64,
        instruction=EditInstruction(action="recolor", target="it", text=text),
        seed=seed,
        adapter=adapter,
    )
    return Edit(image, text, model.resolved(request, profile))


def pixels(editor: Editor, *edits: Edit) -> list[bytes]:
    return [image.tobytes() for image in editor(edits)]


@pytest.mark.parametrize("kind", EDITORS)
def test_an_edit_is_the_same_in_any_company_and_as_large_as_its_source(kind: str, tmp_path: Path) -> None:
    profile = profile_of(kind, tmp_path)
    editor = model.load(profile)
    (alone,) = editor([edit_of(profile)])
    assert (alone.mode, alone.size) == ("RGB", WIDE.size)
    other, same = pixels(editor, edit_of(profile, seed=1), edit_of(profile))
    assert same == alone.tobytes()
    assert other != same


@pytest.mark.parametrize("kind", ON_UNETS)
def test_source_and_instruction_both_matter(kind: str, tmp_path: Path) -> None:
    profile = profile_of(kind, tmp_path)
    editor = model.load(profile)
    source = WIDE.resize((64, 64))
    mirrored = Image.fromarray(np.asarray(source)[:, ::-1])
    images = [
        *pixels(editor, edit_of(profile, image=source), edit_of(profile, image=mirrored)),
        *pixels(editor, edit_of(profile, image=source, text="a blue square")),
    ]
    assert len(set(images)) == 3


@pytest.mark.parametrize("size", [(16, 16), (17, 41)])
def test_sides_need_not_be_multiples_of_anything(size: tuple[int, int], tmp_path: Path) -> None:
    profile = profile_of("controlnet_ip2p_img2img", tmp_path)
    (edited,) = model.load(profile)([edit_of(profile, image=WIDE.resize(size))])
    assert edited.size == size


def test_qwen_sees_the_picture_as_a_plane(tmp_path: Path) -> None:
    """Diffusers 0.42 alone does not say which tokens are a picture's: they would stand in a line."""
    profile = profile_of("qwen_image_edit", tmp_path)
    pipeline = qwen_image_edit.load_editor(profile)
    read, _ = pipeline.encode_prompt("make it red", [WIDE])
    picture = "Picture 1: <|vision_start|><|image_pad|><|vision_end|>"
    text = pipeline.prompt_template_encode.format(f"{picture}make it red")
    inputs = pipeline.processor([text], [WIDE], padding=True, return_tensors="pt")
    reader = Qwen2_5_VLForConditionalGeneration.from_pretrained(Path(profile.model) / "text_encoder")
    pictures_BT = (inputs.input_ids == reader.config.image_token_id).int()
    with torch.inference_mode():
        told = reader(**inputs, mm_token_type_ids=pictures_BT, output_hidden_states=True)
        untold = reader(**inputs, output_hidden_states=True)
    dropped = pipeline.prompt_template_encode_start_idx
    torch.testing.assert_close(read, told.hidden_states[-1][:, dropped:])
    assert not torch.allclose(read, untold.hidden_states[-1][:, dropped:], atol=1e-3)


def test_flux_takes_no_lora_of_a_unet(tmp_path: Path) -> None:
    profile = profile_of("flux_kontext", tmp_path)
    with pytest.raises(Conflict, match="FluxKontextPipeline; leave adapter out"):
        model.load(profile)([edit_of(profile, adapter="run-" + "a" * 16)])


def test_too_little_strength_for_a_step_is_refused(tmp_path: Path) -> None:
    profile = profile_of("controlnet_ip2p_img2img", tmp_path).model_copy(update={"strength": 0.4})
    with pytest.raises(InvalidPayload, match=r"strength: 0\.4 of 2 steps is less than one step"):
        edit_of(profile)


def test_a_controlnet_of_another_base_is_refused(tmp_path: Path) -> None:
    profile = profile_of("controlnet_ip2p", tmp_path)
    assert profile.controlnet is not None
    write_controlnet(Path(profile.controlnet), profile.model, cross_attention_dim=48)
    with pytest.raises(ModelFailure, match=r"was not made for .*base: its cross_attention_dim is 48, not 32"):
        model.load(profile)


def test_a_controlnet_editor_without_one_is_refused(tmp_path: Path) -> None:
    profile = profile_of("controlnet_ip2p", tmp_path).model_copy(update={"controlnet": None})
    with pytest.raises(BadRequest, match=r"editing\.controlnet"):
        model.load(profile)


def test_the_folder_of_another_editor_is_refused(tmp_path: Path) -> None:
    profile = profile_of("controlnet_ip2p", tmp_path).model_copy(update={"editor": "instruct_pix2pix"})
    with pytest.raises(
        ModelFailure, match=r"base is a StableDiffusionPipeline; .* needs a StableDiffusionInstr"
    ):
        model.load(profile)
