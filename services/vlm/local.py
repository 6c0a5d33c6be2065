"""Qwen2.5-VL with transformers: batched, greedy, bounded.

Its processor class wants torchvision; the tokenizer and the Pillow image processor, loaded apart, do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

from retouche.images import decode
from retouche.profile import located
from services.checkpoint import load_part
from services.vlm.chat import Asked, Question
from serving.steps import Step

_PICTURE = "<|image_pad|>"
_END = "<|im_end|>"


@dataclass(frozen=True)
class Reader:
    """Questions and pictures as the model reads them."""

    tokenizer: Any
    image_processor: Any
    dtype: torch.dtype

    def __call__(self, batch: Sequence[Asked]) -> Any:
        """Token ids padded on the left, patches of all pictures, and which tokens are a picture's."""
        pictures = self.image_processor([decode(asked.image) for asked in batch], return_tensors="pt")
        merged = self.image_processor.merge_size**2
        texts = [
            self._text(asked.question).replace(_PICTURE, _PICTURE * (int(grid.prod()) // merged))
            for asked, grid in zip(batch, pictures.image_grid_thw, strict=True)
        ]
        inputs = self.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
        picture = inputs.input_ids == self.tokenizer.convert_tokens_to_ids(_PICTURE)
        inputs.update(pictures)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.dtype)
        inputs["mm_token_type_ids"] = picture.int()
        return inputs

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
    max_answer_tokens: int

    @torch.inference_mode()
    def __call__(self, inputs: Any) -> list[str]:
        inputs = inputs.to(self.model.device)
        written = self.model.generate(
            **inputs,
            max_new_tokens=self.max_answer_tokens,
            do_sample=False,
            eos_token_id=self.tokenizer.convert_tokens_to_ids(_END),
            pad_token_id=self.tokenizer.pad_token_id,
        )
        answers = written[:, inputs.input_ids.shape[1] :]
        return [self._finished(text) for text in self.tokenizer.batch_decode(answers)]

    def _finished(self, text: str) -> str:
        """The answer before its end mark; empty, which no schema takes, where it never came to an end."""
        answer, end, _ = text.partition(_END)
        return answer if end else ""


@dataclass(frozen=True)
class Model(Step[Asked, str]):
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
    return Model(Reader(tokenizer, processor, network.dtype), Writer(network, tokenizer, max_answer_tokens))


def steps(model: str, revision: str | None, dtype: str, max_answer_tokens: int) -> dict[str, Model]:
    """What the services ask of it: `answer`."""
    return {"answer": load(model, revision, dtype, max_answer_tokens)}
