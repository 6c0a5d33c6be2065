"""How much a JSON body may hold, beside its bytes: every wrong value is found before any is told."""

from fastapi import Request

from retouche.errors import PayloadTooLarge

MOST_VALUES = 200_000  # validation takes a second for as many wrong ones, and 100 MB


async def check_values(request: Request) -> None:
    """PayloadTooLarge where objects and lists have too many members, all in all."""
    # Starlette's, where the route has read one: uploads must not be read.
    body = getattr(request, "_json", None)
    values, parts = 0, [body]
    while parts:
        part = parts.pop()
        if isinstance(part, dict | list):
            values += len(part)
            if values > MOST_VALUES:
                raise PayloadTooLarge(
                    f"a JSON body may hold {MOST_VALUES:,} values; send less, or prompts to POST /v1/prompts"
                )
            parts.extend(part.values() if isinstance(part, dict) else part)
