"""What a Stable Diffusion XL base gives the trainer: two text encoders, a pooled prompt, time ids."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from retouche.images import encode
from retouche.store import ObjectStore, run
from shapes.train.loop import MODELS
from tests.trainer import tiny, worlds
from trainer.batches import Draw
from trainer.encode import Encoding, encode_pairs
from trainer.encoded import EncodedPairs
from trainer.encoders import Encoders
from trainer.sources.dataset import finished_pairs


def pipeline(folder: Path, second_seed: int = 1) -> StableDiffusionXLPipeline:
    """A tiny pipeline of 64 x 64 pixels with random weights, saved in `folder`."""
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "base", subfolder="tokenizer")
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=8,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    first = CLIPTextModel(config)
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    )
    unet_config: dict[str, Any] = tiny.SDXL | {"sample_size": 32, "cross_attention_dim": 32}
    unet = UNet2DConditionModel(**unet_config)
    torch.manual_seed(second_seed)
    second = CLIPTextModelWithProjection(config)
    made = StableDiffusionXLPipeline(
        vae, first.eval(), second.eval(), tokenizer, tokenizer, unet, EulerDiscreteScheduler()
    )
    made.save_pretrained(folder)
    return made


def test_embeddings_are_those_of_the_pipeline(tmp_path: Path, store: ObjectStore) -> None:
    base = pipeline(tmp_path / "base")
    pairs = run(finished_pairs(store, worlds.finished_job(store)))[:2]
    encoding = Encoding(Encoders(str(tmp_path / "base")))
    encode_pairs(store, encoding, pairs)
    batch = EncodedPairs(store, encoding, pairs, seed=0).batch([Draw(0, False, False, 0)])
    hidden, _, pooled, _ = base.encode_prompt(pairs[0].prompt, do_classifier_free_guidance=False)
    assert batch.pooled_embeddings_BP is not None
    assert batch.chosen_time_ids_B6 is not None
    assert torch.allclose(batch.prompt_embeddings_BLD, hidden, atol=1e-5)
    assert torch.allclose(batch.pooled_embeddings_BP, pooled, atol=1e-5)
    assert batch.chosen_time_ids_B6.tolist() == [[64, 64, 0, 0, 64, 64]]


def test_each_image_of_a_pair_says_what_size_it_had(tmp_path: Path, store: ObjectStore) -> None:
    pipeline(tmp_path / "base")
    (pair, *_) = run(finished_pairs(store, worlds.finished_job(store)))
    wide = run(store.put_image(encode(Image.new("RGB", (192, 128)))))
    pairs, encoding = [replace(pair, rejected=wide)], Encoding(Encoders(str(tmp_path / "base")))
    encode_pairs(store, encoding, pairs)
    batch = EncodedPairs(store, encoding, pairs, seed=0).batch([Draw(0, False, False, 0)])
    assert batch.chosen_time_ids_B6 is not None
    assert batch.rejected_time_ids_B6 is not None
    assert batch.chosen_time_ids_B6[0, :2].tolist() == [64, 64]
    assert batch.rejected_time_ids_B6[0, :2].tolist() == [128, 192]


@pytest.mark.parametrize("other", ["another second encoder", "the first one alone"])
def test_bases_that_share_a_text_encoder_do_not_share_embeddings(tmp_path: Path, other: str) -> None:
    pipeline(tmp_path / "base")
    if other == "another second encoder":
        pipeline(tmp_path / "other", second_seed=2)
    else:
        tiny.save_base(tmp_path / "other")
        for part in ("text_encoder", "tokenizer"):
            shutil.copytree(tmp_path / "base" / part, tmp_path / "other" / part)
    one, two = (Encoders(str(tmp_path / name)).text_identity for name in ("base", "other"))
    assert one != two
