"""Qwen2.5-VL with transformers: batched, greedy, bounded.

Its processor class wants torchvision; the tokenizer and the Pillow image processor, loaded apart, do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

from retouche.images import decode
from retouche.profile import located
from services.checkpoint import load_part
from services.vlm.chat import Asked, Question
from serving.steps import Step

_PICTURE = "<|image_pad|>"
_END = "<|im_end|>"


@dataclass(frozen=True)
class Read:
    """One question as the model reads it."""

    tokens: NDArray[np.int64]  # (T)
    patches: NDArray[np.uint8]  # (N, values of a patch)
    grid: NDArray[np.int64]  # how many of them in time, height, width


@dataclass(frozen=True)
class Reader:
    """Questions and pictures to tokens and patches."""

    tokenizer: Any
    image_processor: Any

    def __call__(self, batch: Sequence[Asked]) -> list[Read]:
        cut = self.image_processor(
            [decode(asked.image) for asked in batch],
            do_rescale=False,
            do_normalize=False,
            return_tensors="np",
        )
        ends = np.cumsum(cut.image_grid_thw.prod(axis=1))
        patches = np.split(cut.pixel_values.astype(np.uint8), ends[:-1])
        merged = self.image_processor.merge_size**2
        texts = [
            self._text(asked.question).replace(_PICTURE, _PICTURE * (len(patches_NV) // merged))
            for asked, patches_NV in zip(batch, patches, strict=True)
        ]
        tokens = map(np.asarray, self.tokenizer(texts).input_ids)
        return list(map(Read, tokens, patches, cut.image_grid_thw))

    def _text(self, question: Question[Any]) -> str:
        text: str = self.tokenizer.apply_chat_template(
            question.messages(""), tokenize=False, add_generation_prompt=True
        )
        return text


@dataclass(frozen=True)
class Writer:
    """What is read to answers, batched and greedy."""

    model: Any
    tokenizer: Any
    image_processor: Any
    max_answer_tokens: int

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Read]) -> list[str]:
        inputs = self.inputs(batch)
        written = self.model.generate(
            **inputs,
            max_new_tokens=self.max_answer_tokens,
            do_sample=False,
            eos_token_id=self.tokenizer.convert_tokens_to_ids(_END),
            pad_token_id=self.tokenizer.pad_token_id,
        )
        answers = written[:, inputs["input_ids"].shape[1] :]
        return [self._finished(text) for text in self.tokenizer.batch_decode(answers)]

    def inputs(self, batch: Sequence[Read]) -> dict[str, torch.Tensor]:
        """Token ids padded on the left, patches of all pictures, and which tokens are a picture's."""
        tokens_BT = _left_padded([read.tokens for read in batch], self.tokenizer.pad_token_id)
        present_BT = _left_padded([np.ones_like(read.tokens) for read in batch], 0)
        patches_NV = torch.from_numpy(np.concatenate([read.patches for read in batch]))
        inputs = {
            "input_ids": tokens_BT,
            "attention_mask": present_BT,
            "mm_token_type_ids": (tokens_BT == self.tokenizer.convert_tokens_to_ids(_PICTURE)).int(),
            "image_grid_thw": torch.from_numpy(np.stack([read.grid for read in batch])),
            "pixel_values": self._standardised(patches_NV.to(self.model.device)),
        }
        return {name: tensor.to(self.model.device) for name, tensor in inputs.items()}

    def _standardised(self, patches_NV: torch.Tensor) -> torch.Tensor:
        """Bytes to what the image processor makes of them, to the last bit."""
        scaled_NCR = (patches_NV.double() * self.image_processor.rescale_factor).float().unflatten(1, (3, -1))
        mean_C1, std_C1 = (
            torch.tensor(each, device=patches_NV.device)[:, None]
            for each in (self.image_processor.image_mean, self.image_processor.image_std)
        )
        pixels_NV: torch.Tensor = ((scaled_NCR - mean_C1) / std_C1).flatten(1)
        return pixels_NV.to(self.model.dtype)

    def _finished(self, text: str) -> str:
        """The answer before its end mark; empty, which no schema takes, where it never came to an end."""
        answer, end, _ = text.partition(_END)
        return answer if end else ""


def _left_padded(rows: Sequence[NDArray[np.int64]], padding: int) -> torch.Tensor:
    tensors = [torch.from_numpy(row) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=padding, padding_side="left")


@dataclass(frozen=True)
class Model(Step[Asked, Read, str]):
    """One text for each question."""

    prepare: Reader
    run: Writer


def load(model: str, revision: str | None, dtype: str, max_answer_tokens: int) -> Model:
    """A Qwen2.5-VL folder or Hub id, on the accelerator if there is one.

    Raises:
        ModelFailure: its weights are no safetensors, or not exactly those of a Qwen2.5-VL.
    """
    network = load_part(Qwen2_5_VLForConditionalGeneration, model, revision, dtype)
    tokenizer = AutoTokenizer.from_pretrained(located(model), revision=revision)
    processor = Qwen2VLImageProcessorPil.from_pretrained(located(model), revision=revision or "main")
    return Model(Reader(tokenizer, processor), Writer(network, tokenizer, processor, max_answer_tokens))


def steps(model: str, revision: str | None, dtype: str, max_answer_tokens: int) -> dict[str, Model]:
    """What the services ask of it: `answer`."""
    return {"answer": load(model, revision, dtype, max_answer_tokens)}
