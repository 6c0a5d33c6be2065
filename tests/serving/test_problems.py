"""Each error of the tree as a problem, and each field of a payload that is not valid named."""

import asyncio

import httpx2
import pytest
from fastapi import APIRouter, FastAPI

from retouche.contract.services import Readiness
from retouche.contract.stages import GenerateRequest
from retouche.errors import FieldProblem, Problem, RetoucheError, all_errors, from_problem
from serving.app import Loaded, create_app

ERRORS = {error.code: error for error in all_errors()}

router = APIRouter()


@router.post("/echo")
async def echo(payload: GenerateRequest) -> GenerateRequest:
    return payload


@router.get("/error/{code}")
async def error(code: str) -> None:
    raise ERRORS[code]("it went wrong", retry_after_seconds=2.4)


async def nothing_to_load(_: FastAPI) -> Loaded:
    async def stop() -> None:
        return None

    return Readiness(), stop


def send(method: str, path: str, **options: object) -> httpx2.Response:
    """One request to an application with the routes above."""
    app = create_app("Test", router, nothing_to_load)

    async def run() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)  # type: ignore[arg-type]

    return asyncio.run(run())


def problem(response: httpx2.Response) -> Problem:
    assert response.headers["content-type"] == "application/problem+json"
    found = Problem.model_validate_json(response.content)
    assert found.status == response.status_code
    return found


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.code)
def test_each_error_is_served_and_raised_again_as_itself(error: type[RetoucheError]) -> None:
    response = send("GET", f"/error/{error.code}")
    found = problem(response)
    assert (found.status, found.detail, found.retryable) == (error.status, "it went wrong", error.retryable)
    assert response.headers.get("retry-after") == ("3" if error.retryable else None)
    assert type(from_problem(found)) is error


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"prompt": "", "seed": 1}, [FieldProblem(field="prompt", problem="")]),
        ({"prompt": "x" * 3_000, "seed": 1}, [FieldProblem(field="prompt", problem="(3,000 characters)")]),
        ({"prompt": "x", "seed": -1}, [FieldProblem(field="seed", problem="not -1")]),
        ({"prompt": "x", "seed": 1, "width": 17}, [FieldProblem(field="width", problem="not 17")]),
        ({"prompt": "x", "seed": 1, "colour": 1}, [FieldProblem(field="colour", problem="Extra inputs")]),
        ({"prompt": ["x" * 3_000] * 9, "seed": 1}, [FieldProblem(field="prompt", problem="xxx', ...]")]),
        ({"seed": "one"}, [FieldProblem(field="prompt", problem=""), FieldProblem(field="seed", problem="")]),
    ],
)
def test_a_payload_that_is_not_valid_names_each_field(
    payload: dict[str, object], expected: list[FieldProblem]
) -> None:
    found = problem(send("POST", "/echo", json=payload))
    assert (found.status, found.type) == (422, "urn:retouche:invalid-payload")
    assert [field.field for field in found.fields] == [field.field for field in expected]
    assert all(said.problem in field.problem for field, said in zip(found.fields, expected, strict=True))
    assert len(found.detail) < 300


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 422), (b"[]", 422), (b'"text"', 422), (b"{", 400), (b"\xff\xfe", 400)]
)
def test_a_body_that_is_no_json_object(body: bytes, status: int) -> None:
    response = send("POST", "/echo", content=body, headers={"content-type": "application/json"})
    assert problem(response).status == status


def test_what_cannot_be_printed_in_json_is_still_answered() -> None:
    body = b'{"prompt": "x", "seed": 1, "guidance_scale": NaN}'
    response = send("POST", "/echo", content=body, headers={"content-type": "application/json"})
    assert problem(response).fields[0].field == "guidance_scale"


def test_every_route_documents_problems_as_they_are_sent() -> None:
    for operations in send("GET", "/openapi.json").json()["paths"].values():
        for operation in operations.values():
            for status in ("4XX", "5XX"):
                told = operation["responses"][status]
                assert list(told["content"]) == ["application/problem+json"]
                for error in all_errors():
                    if str(error.status)[0] == status[0]:
                        assert f"{error.status} {error.code}" in told["description"]
