"""Which of a service's reward models a request means."""

from collections.abc import Mapping, Sequence

from retouche.errors import FieldProblem, InvalidPayload


def among(names: Sequence[str], known: Mapping[str, object], field: str) -> list[str]:
    """`names` in order, each once.

    Raises:
        InvalidPayload: one is not among `known`; names it and `field`.
    """
    for name in names:
        if name not in known:
            able = ", ".join(sorted(known)) or "none"
            problem = f"{name!r} is not a reward model of this service that can do this; it has {able}"
            raise InvalidPayload(f"{field}: {problem}", fields=[FieldProblem(field=field, problem=problem)])
    return sorted(set(names))
