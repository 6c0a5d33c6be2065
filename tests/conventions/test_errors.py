"""One error tree: drawn, unique, and the same on both ends of the wire."""

import pytest

from retouche import errors
from retouche.errors import FieldProblem, RetoucheError, all_errors, from_problem


def test_the_drawing_is_the_tree() -> None:
    drawn = [tuple(line.strip(" │├└─").split()[:3]) for line in (errors.__doc__ or "").splitlines()]
    written = {(error.__name__, str(error.status), error.code) for error in all_errors()}
    assert {row for row in drawn if len(row) == 3 and row[1].isdigit()} == written


def test_codes_are_unique() -> None:
    codes = [error.code for error in all_errors()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.code)
def test_an_error_survives_the_wire(error: type[RetoucheError]) -> None:
    sent = error("the value 3 is too small; send 4", fields=[FieldProblem(field="size", problem="too small")])
    arrived = from_problem(errors.Problem.model_validate_json(sent.problem().model_dump_json()))
    assert type(arrived) is error
    assert arrived.detail == sent.detail
    assert arrived.fields == sent.fields
    assert arrived.retryable == error.retryable


def test_only_payload_validation_is_422() -> None:
    assert [error.code for error in all_errors() if error.status == 422] == ["invalid-payload"]
