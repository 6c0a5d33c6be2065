"""A converted LLaVA-Critic behind the real vLLM server: the original's tokens and numbers."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from transformers import AutoTokenizer

from retouche.conversion.llava_critic import convert
from tests.retouche.conversion.llava_next import PICTURE, picture, random_original, write
from tests.vllm_server import VllmServer, require_vllm

ORIGINAL = random_original()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_vllm()
    folder = tmp_path_factory.mktemp("llava")
    convert(write(folder / "source", ORIGINAL.weights()), folder / "target")
    return folder / "target"


@pytest.fixture(scope="module")
def vllm(folder: Path) -> Iterator[VllmServer]:
    server = VllmServer(str(folder), folder.parent / "log")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("size", "tolerance"),
    [((28, 28), 1e-3), ((90, 31), 5e-2)],
    ids=["as it is", "scaled, which torchvision rounds otherwise"],
)
def test_vllm_computes_what_the_original_does(
    vllm: VllmServer, folder: Path, size: tuple[int, int], tolerance: float
) -> None:
    image = picture(size)
    messages = [{"role": "user", "content": [_part(image), {"type": "text", "text": "what is wrong?"}]}]
    asked = {"model": str(folder), "messages": messages, "temperature": 0, "max_tokens": 1}
    asked |= {"logprobs": True, "top_logprobs": 5}
    answer = httpx2.post(f"{vllm.url}/v1/chat/completions", json=asked, timeout=60).raise_for_status().json()
    ids = _token_ids(folder, messages)
    assert answer["usage"]["prompt_tokens"] == len(ids) - 1 + len(ORIGINAL.picture(image))
    theirs = [each["logprob"] for each in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]]
    ours = ORIGINAL.logits(ids, image)[-1].topk(5).values.tolist()
    assert _from_first(theirs) == pytest.approx(_from_first(ours), abs=tolerance)


def _part(image: Image.Image) -> dict[str, Any]:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def _token_ids(folder: Path, messages: list[dict[str, Any]]) -> list[int]:
    """The prompt as LLaVA-NeXT has it, the picture one stand-in."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    return [PICTURE if token == image_token else token for token in tokenizer(text)["input_ids"]]


def _from_first(values: list[float]) -> list[float]:
    """Log-probabilities and logits differ by a constant."""
    return [value - values[0] for value in values]
