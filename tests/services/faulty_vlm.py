"""An OpenAI-compatible server for a real uvicorn to run, that misbehaves as real ones do."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

MODEL = "qwen"
GOOD = {  # by the payload model that is asked for
    "Critique": '{"description": "a red square", "findings": '
    '[{"aspect": "color", "subject": "the square", "problem": "is not red enough"}]}',
    "Instructions": '{"instructions": '
    '[{"action": "recolor", "target": "the square", "text": "redder by 1"}]}',
}

Body = dict[str, Any]
Step = Callable[[Body], Response]


class FaultyServer:
    """Answers a question as the next step of a script says, the last step for ever; keeps what it was asked.

    `scripts`: by a word that the question's text has.
    """

    def __init__(self, scripts: Mapping[str, Sequence[Step]]) -> None:
        self.asked: list[Body] = []
        self.app = FastAPI()
        self.app.add_api_route("/v1/models", lambda: {"data": [{"id": MODEL}]})
        self.app.add_api_route("/v1/chat/completions", self._answer, methods=["POST"])
        self._scripts = scripts
        self._times: Counter[str] = Counter()

    async def _answer(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        text = body["messages"][1]["content"][1]["text"]
        script = next(script for word, script in self._scripts.items() if word in text)
        step = script[min(self._times[text], len(script) - 1)]
        self._times[text] += 1
        if step is slow:
            await asyncio.sleep(5)
        return step(body)


def good(body: Body) -> Response:
    return _completion(_good(body))


def slow(body: Body) -> Response:
    """A good answer, later than anybody waits for."""
    return good(body)


def dying(_: Body) -> Response:
    """The connection ends in the middle of the answer."""
    return StreamingResponse(iter(['{"choices": [']), headers={"content-length": "5000"})


def failing(_: Body) -> Response:
    return Response("CUDA out of memory", status_code=500)


def busy(_: Body) -> Response:
    return Response("too many requests", status_code=429)


def loading(_: Body) -> Response:
    return Response("loading", status_code=503, headers={"retry-after": "1"})


def gone_for_an_hour(_: Body) -> Response:
    return Response("maintenance", status_code=503, headers={"retry-after": "3600"})


def no_such_model(_: Body) -> Response:
    return Response('{"error": {"message": "The model `qwen` does not exist."}}', status_code=404)


def too_long(_: Body) -> Response:
    return Response('{"error": {"message": "maximum context length is 2048 tokens"}}', status_code=400)


def truncated(body: Body) -> Response:
    return _completion(_good(body)[:30], "length")


def out_of_schema(_: Body) -> Response:
    return _completion('{"description": "a red square", "findings": [{"aspect": "mood"}]}')


def garbage(_: Body) -> Response:
    return Response("<html>a proxy</html>")


def _good(body: Body) -> str:
    return GOOD[body["response_format"]["json_schema"]["name"]]


def _completion(content: str, finish_reason: str = "stop") -> Response:
    message = {"role": "assistant", "content": content}
    body = {"choices": [{"finish_reason": finish_reason, "message": message}]}
    return Response(json.dumps(body), media_type="application/json")
