"""A run that cannot be carried out as it was asked for."""

from retouche.errors import BadRequest, FieldProblem


def refused(field: str, problem: str) -> BadRequest:
    """The error that says what is wrong with a field of the run's specification."""
    return BadRequest(f"{field}: {problem}", fields=[FieldProblem(field=field, problem=problem)])
