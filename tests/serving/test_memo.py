"""A stage's answer is made once for each request and model, whoever asks again."""

import asyncio

import pytest

from retouche.contract.payload import ModelIdentity, Payload
from retouche.errors import ModelFailure
from retouche.store import ObjectStore
from serving.memo import memo_key, remembered


class Question(Payload):
    text: str
    number: int = 1


class Answer(Payload):
    text: str


MODELS = {"stage": ModelIdentity(id="model", revision="1")}


class Maker:
    """Makes a different answer each time."""

    def __init__(self) -> None:
        self.made = 0

    async def __call__(self) -> Answer:
        self.made += 1
        text = f"answer {self.made}"
        await asyncio.sleep(0.01)
        return Answer(text=text)


def test_the_second_call_is_a_hit(store: ObjectStore) -> None:
    async def run() -> None:
        make = Maker()
        question = Question(text="what?")
        assert await remembered(store, "stage", MODELS, question, make) == (
            b'{"text":"answer 1"}',
            False,
        )
        assert await remembered(store, "stage", MODELS, question, make) == (
            b'{"text":"answer 1"}',
            True,
        )
        assert make.made == 1

    asyncio.run(run())


def test_two_that_ask_at_once_get_one_answer(store: ObjectStore) -> None:
    async def run() -> None:
        make = Maker()
        ask = [remembered(store, "stage", MODELS, Question(text="what?"), make) for _ in range(8)]
        answers = [answer for answer, _ in await asyncio.gather(*ask)]
        assert len(set(answers)) == 1

    asyncio.run(run())


def test_what_fails_is_not_remembered(store: ObjectStore) -> None:
    async def fail() -> Answer:
        raise ModelFailure("no")

    async def run() -> None:
        question = Question(text="what?")
        with pytest.raises(ModelFailure):
            await remembered(store, "stage", MODELS, question, fail)
        content, _ = await remembered(store, "stage", MODELS, question, Maker())
        assert Answer.model_validate_json(content).text == "answer 1"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("models", "question"),
    [
        (MODELS, Question(text="another")),
        (MODELS, Question(text="what?", number=2)),
        ({"stage": ModelIdentity(id="model", revision="2")}, Question(text="what?")),
        (MODELS | {"controlnet": ModelIdentity(id="other", revision="1")}, Question(text="what?")),
    ],
)
def test_another_question_or_model_is_another_key(
    models: dict[str, ModelIdentity], question: Question
) -> None:
    assert memo_key(models, question) != memo_key(MODELS, Question(text="what?"))


def test_a_default_that_is_written_out_is_the_same_key() -> None:
    assert memo_key(MODELS, Question(text="what?", number=1)) == memo_key(MODELS, Question(text="what?"))
