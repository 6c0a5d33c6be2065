"""Small diffusion pipelines of the published kinds: real classes, random weights, ordinary folders."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    ControlNetModel,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    PNDMScheduler,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from shapes.train.loop import MODELS
from tests.services.published import LENGTH, TOKENS, clip_tokenizer

WIDTH, LATENTS = 32, 4
_SD_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
_UNET: dict[str, Any] = {
    "block_out_channels": (WIDTH, 2 * WIDTH),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": 4,
    "out_channels": LATENTS,
}


def write_stable_diffusion(folder: Path) -> str:
    """Stable Diffusion 1.5, without its checker."""
    torch.manual_seed(0)
    StableDiffusionPipeline(**_stable_diffusion(LATENTS)).save_pretrained(folder)
    return str(folder)


def write_instruct_pix2pix(folder: Path) -> str:
    torch.manual_seed(1)
    StableDiffusionInstructPix2PixPipeline(**_stable_diffusion(2 * LATENTS)).save_pretrained(folder)
    return str(folder)


def write_controlnet(folder: Path, base: str, **changes: Any) -> str:
    """A ControlNet for a base, trained far enough that the control image matters."""
    torch.manual_seed(2)
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    controlnet: Any = ControlNetModel.from_config({**ControlNetModel.from_unet(unet).config, **changes})
    for weight in controlnet.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.3)
    controlnet.save_pretrained(folder)
    return str(folder)


def write_stable_diffusion_xl(folder: Path) -> str:
    """Stable Diffusion XL: two text encoders, and sizes beside the time."""
    torch.manual_seed(3)
    unet = UNet2DConditionModel(
        **_UNET,
        in_channels=LATENTS,
        cross_attention_dim=2 * WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
    )
    StableDiffusionXLPipeline(
        unet=unet,
        vae=_autoencoder(LATENTS),
        text_encoder=CLIPTextModel(_text_config()),
        text_encoder_2=CLIPTextModelWithProjection(_text_config()),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        scheduler=EulerDiscreteScheduler(**_SD_BETAS, timestep_spacing="leading", steps_offset=1),
    ).save_pretrained(folder)
    return str(folder)


def write_flux(folder: Path) -> str:
    """FLUX.1 dev: a flow over packed latents, CLIP's and T5's text."""
    torch.manual_seed(4)
    FluxPipeline(**_flux()).save_pretrained(folder)
    return str(folder)


def write_flux_kontext(folder: Path) -> str:
    torch.manual_seed(5)
    FluxKontextPipeline(**_flux()).save_pretrained(folder)
    return str(folder)


def write_qwen_image_edit(folder: Path) -> str:
    """Qwen-Image-Edit-2509 over the Qwen2.5-VL of the shapes world."""
    torch.manual_seed(6)
    critic = MODELS / "critic"
    reader: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(critic, dtype=torch.float32)
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=reader.config.text_config.hidden_size,
        axes_dims_rope=(4, 6, 6),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=2,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    tokenizer = AutoTokenizer.from_pretrained(critic)
    images = Qwen2VLImageProcessorPil.from_pretrained(critic)
    images.save_pretrained(folder / "processor")
    pipeline = QwenImageEditPlusPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        text_encoder=reader,
        tokenizer=tokenizer,
        processor=None,  # its class cannot be made without torchvision; its files are all that matters
        transformer=transformer,
    )
    pipeline.save_pretrained(folder)
    return str(folder)


def _stable_diffusion(channels_read: int) -> dict[str, Any]:
    return {
        "unet": UNet2DConditionModel(**_UNET, in_channels=channels_read, cross_attention_dim=WIDTH),
        "vae": _autoencoder(LATENTS),
        "text_encoder": CLIPTextModel(_text_config()),
        "tokenizer": _tokenizer(),
        "scheduler": PNDMScheduler(**_SD_BETAS, skip_prk_steps=True, steps_offset=1),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _flux() -> dict[str, Any]:
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * LATENTS,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    t5 = T5Config(vocab_size=200, d_model=WIDTH, d_kv=8, d_ff=WIDTH, num_layers=1, num_heads=4)
    return {
        "transformer": transformer,
        "vae": _autoencoder(LATENTS, shift_factor=0.1, mid_block_add_attention=False),
        "text_encoder": CLIPTextModel(_text_config()),
        "tokenizer": _tokenizer(),
        "text_encoder_2": T5EncoderModel(t5),
        "tokenizer_2": T5Tokenizer(model_max_length=512),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    }


def _autoencoder(channels: int, **changes: Any) -> AutoencoderKL:
    """Eight pixels a latent, as in all of them."""
    blocks = 4
    return AutoencoderKL(
        block_out_channels=(4,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=channels,
        norm_num_groups=2,
        layers_per_block=1,
        **changes,
    )


def _tokenizer() -> CLIPTokenizer:
    tokenizer = clip_tokenizer()
    tokenizer.model_max_length = LENGTH
    return tokenizer


def _text_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(TOKENS),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        bos_token_id=len(TOKENS) - 2,
        eos_token_id=len(TOKENS) - 1,
        pad_token_id=len(TOKENS) - 1,
    )
