"""What is asked of a vision-language model: one picture, two texts, and the form of the answer."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from retouche.contract.payload import ModelIdentity
from retouche.errors import ModelFailure

_CONTROL = re.compile(r"<\|[^|<>]*\|>")

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True)
class Question(Generic[Answer]):
    """A system text, a text beside the picture, and the payload model that the answer must fit."""

    system: str
    text: str
    answer: type[Answer]

    def messages(self, image_url: str) -> list[dict[str, Any]]:
        """The messages in OpenAI's format, the picture before the text."""
        picture = {"type": "image_url", "image_url": {"url": image_url}}
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": [picture, {"type": "text", "text": self.text}]},
        ]

    @property
    def response_format(self) -> dict[str, Any]:
        """Structured output as OpenAI-compatible servers take it; properties in the answer's order.

        How long a text may be is left to `read`: counting its characters makes each token of a batch take
        ten times as long in vLLM's grammar, measured with 0.32 and the shapes critic.
        """
        name, schema = self.answer.__name__, _unmeasured(self.answer.model_json_schema())
        return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


@dataclass(frozen=True)
class Asked:
    """A question about an encoded image."""

    question: Question[Any]
    image: bytes


def _unmeasured(schema: Any) -> Any:
    """A JSON schema without the greatest lengths of texts."""
    if isinstance(schema, dict):
        return {key: _unmeasured(value) for key, value in schema.items() if key != "maxLength"}
    return [_unmeasured(value) for value in schema] if isinstance(schema, list) else schema


def plain(text: str) -> str:
    """`text` without anything that a tokenizer would take for the end of a message."""
    while (cleaned := _CONTROL.sub("", text)) != text:
        text = cleaned
    return text


def written(answer: BaseModel) -> str:
    """An answer as models write JSON: ", " between entries, ": " after keys."""
    return json.dumps(answer.model_dump(), ensure_ascii=False)


def read(answer: type[Answer], text: str) -> Answer:
    """The answer that a model wrote.

    Raises:
        ModelFailure: it is not JSON, or does not fit the payload model.
    """
    try:
        return answer.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"]) or "its root"
        raise ModelFailure(
            f"the model's answer does not fit {answer.__name__} at {where}: {problem['msg']}; "
            f"it begins {text[:80]!r}"
        ) from None


def messages_revision(system: str) -> ModelIdentity:
    """What stands for the fixed texts in memo keys: other words may get another answer."""
    return ModelIdentity(id="messages", revision=hashlib.sha256(system.encode()).hexdigest()[:12])
