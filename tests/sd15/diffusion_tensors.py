"""The tensors of Stable Diffusion 1.5 and its ControlNets as they are published, written out by hand."""

from collections.abc import Iterator
from itertools import pairwise

from tests.services.published import Shapes, linear, norm

_WIDTHS = (320, 640, 1280, 1280)
_TIME, _TEXT = 1280, 768
_VAE_WIDTHS = (128, 256, 512, 512)


def conv(name: str, width_in: int, width_out: int, side: int = 3) -> Shapes:
    return {f"{name}.weight": (width_out, width_in, side, side), f"{name}.bias": (width_out,)}


def unet() -> Shapes:
    """unet/diffusion_pytorch_model.safetensors."""
    shapes = _down_half() | norm("conv_norm_out", _WIDTHS[0]) | conv("conv_out", _WIDTHS[0], 4)
    before = _WIDTHS[-1]
    skipped = [320, 320, 320, 320, 640, 640, 640, 1280, 1280, 1280, 1280, 1280]
    for block, width in enumerate(reversed(_WIDTHS)):
        for layer in range(3):
            name = f"up_blocks.{block}.resnets.{layer}"
            shapes |= _resnet(name, before + skipped.pop(), width, _TIME)
            before = width
            if block > 0:
                shapes |= _attention(f"up_blocks.{block}.attentions.{layer}", width)
        if block < 3:
            shapes |= conv(f"up_blocks.{block}.upsamplers.0.conv", width, width)
    return shapes


def controlnet() -> Shapes:
    """A ControlNet's diffusion_pytorch_model.safetensors: the half that goes down, and what leads out."""
    shapes, outer = _down_half(), "controlnet_cond_embedding"
    shapes |= conv(f"{outer}.conv_in", 3, 16) | conv(f"{outer}.conv_out", 256, _WIDTHS[0])
    widths = (16, 16, 32, 32, 96, 96, 256)
    for block, (width_in, width_out) in enumerate(pairwise(widths)):
        shapes |= conv(f"{outer}.blocks.{block}", width_in, width_out)
    for block, width in enumerate([320] * 4 + [640] * 3 + [1280] * 5):
        shapes |= conv(f"controlnet_down_blocks.{block}", width, width, 1)
    return shapes | conv("controlnet_mid_block", 1280, 1280, 1)


def vae() -> Shapes:
    """vae/diffusion_pytorch_model.safetensors; its attention has names that diffusers has since left."""
    shapes = conv("quant_conv", 8, 8, 1) | conv("post_quant_conv", 4, 4, 1)
    shapes |= conv("encoder.conv_in", 3, 128) | conv("encoder.conv_out", 512, 8)
    shapes |= conv("decoder.conv_in", 4, 512) | conv("decoder.conv_out", 128, 3)
    shapes |= norm("encoder.conv_norm_out", 512) | norm("decoder.conv_norm_out", 128)
    ways = (("encoder", "down", _VAE_WIDTHS, 2), ("decoder", "up", tuple(reversed(_VAE_WIDTHS)), 3))
    for half, way, widths, layers in ways:
        before = widths[0]
        for block, width in enumerate(widths):
            for layer in range(layers):
                shapes |= _resnet(f"{half}.{way}_blocks.{block}.resnets.{layer}", before, width)
                before = width
            if block < 3:
                shapes |= conv(f"{half}.{way}_blocks.{block}.{way}samplers.0.conv", width, width)
        for layer in range(2):
            shapes |= _resnet(f"{half}.mid_block.resnets.{layer}", 512, 512)
        attention = f"{half}.mid_block.attentions.0"
        shapes |= norm(f"{attention}.group_norm", 512)
        for name in ("query", "key", "value", "proj_attn"):
            shapes |= linear(f"{attention}.{name}", 512, 512)
    return shapes


def text_encoder() -> Shapes:
    """text_encoder/model.safetensors: the text half of CLIP ViT-L/14, and places it no longer keeps."""
    embeddings = "text_model.embeddings"
    shapes: Shapes = {
        f"{embeddings}.position_ids": (1, 77),
        f"{embeddings}.position_embedding.weight": (77, _TEXT),
        f"{embeddings}.token_embedding.weight": (49_408, _TEXT),
    }
    for layer in (f"text_model.encoder.layers.{number}" for number in range(12)):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{layer}.self_attn.{name}", _TEXT, _TEXT)
        shapes |= linear(f"{layer}.mlp.fc1", _TEXT, 4 * _TEXT) | linear(f"{layer}.mlp.fc2", 4 * _TEXT, _TEXT)
        shapes |= norm(f"{layer}.layer_norm1", _TEXT) | norm(f"{layer}.layer_norm2", _TEXT)
    return shapes | norm("text_model.final_layer_norm", _TEXT)


def _down_half() -> Shapes:
    shapes = conv("conv_in", 4, _WIDTHS[0])
    shapes |= linear("time_embedding.linear_1", 320, _TIME) | linear("time_embedding.linear_2", _TIME, _TIME)
    before = _WIDTHS[0]
    for block, width in enumerate(_WIDTHS):
        for layer in range(2):
            shapes |= _resnet(f"down_blocks.{block}.resnets.{layer}", before, width, _TIME)
            before = width
            if block < 3:
                shapes |= _attention(f"down_blocks.{block}.attentions.{layer}", width)
        if block < 3:
            shapes |= conv(f"down_blocks.{block}.downsamplers.0.conv", width, width)
    for layer in range(2):
        shapes |= _resnet(f"mid_block.resnets.{layer}", 1280, 1280, _TIME)
    return shapes | _attention("mid_block.attentions.0", 1280)


def _resnet(name: str, width_in: int, width_out: int, time: int | None = None) -> Shapes:
    shapes = norm(f"{name}.norm1", width_in) | conv(f"{name}.conv1", width_in, width_out)
    shapes |= norm(f"{name}.norm2", width_out) | conv(f"{name}.conv2", width_out, width_out)
    if time is not None:
        shapes |= linear(f"{name}.time_emb_proj", time, width_out)
    if width_in != width_out:
        shapes |= conv(f"{name}.conv_shortcut", width_in, width_out, 1)
    return shapes


def _attention(name: str, width: int) -> Shapes:
    shapes = norm(f"{name}.norm", width)
    shapes |= conv(f"{name}.proj_in", width, width, 1) | conv(f"{name}.proj_out", width, width, 1)
    return shapes | dict(_transformer_block(f"{name}.transformer_blocks.0", width))


def _transformer_block(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for number in (1, 2, 3):
        yield from norm(f"{name}.norm{number}", width).items()
    for attention, context in (("attn1", width), ("attn2", _TEXT)):
        yield f"{name}.{attention}.to_q.weight", (width, width)
        yield f"{name}.{attention}.to_k.weight", (width, context)
        yield f"{name}.{attention}.to_v.weight", (width, context)
        yield from linear(f"{name}.{attention}.to_out.0", width, width).items()
    yield from linear(f"{name}.ff.net.0.proj", width, 8 * width).items()
    yield from linear(f"{name}.ff.net.2", 4 * width, width).items()
