"""What the page says when something went well, went wrong, or is not there yet."""

import html

from pydantic import ValidationError

from retouche.errors import (
    JobNotFound,
    PayloadTooLarge,
    RetoucheError,
    RunNotFound,
    ServiceUnreachable,
    Unauthorized,
)

_GONE = (
    "is not there any more: it was deleted, or belongs to another key. Choose another one, or paste its key."
)
_WHAT_TO_DO: dict[type[RetoucheError], str] = {
    ServiceUnreachable: "The gateway does not answer. Start it with `retouche up`, or set RETOUCHE_URL to "
    "where it is; this page tries again by itself, and nothing you typed is lost.",
    Unauthorized: "The gateway does not accept this API key. Paste a valid one into the field at the top "
    "of the page; nothing you typed is lost.",
    JobNotFound: f"This job {_GONE}",
    RunNotFound: f"This run {_GONE}",
    PayloadTooLarge: "This is more than the gateway takes at once. Split it, and send the parts as jobs of "
    "their own.",
}


def good(text: str) -> str:
    return _notice("good", "✓", text)


def empty(text: str) -> str:
    """Nothing is there yet; says how something comes to be."""
    return _notice("empty", "○", text)


def bad(text: str, detail: str = "") -> str:
    return _notice("bad", "✕", text, detail)


def problem(error: RetoucheError) -> str:
    """What happened and what to do, with the gateway's own words beneath."""
    for kind, said in _WHAT_TO_DO.items():
        if isinstance(error, kind):
            return bad(said, error.detail)
    return bad(error.detail)


def invalid(error: ValidationError) -> str:
    """The first field that is not as it must be."""
    first = error.errors()[0]
    field = " ".join(str(part) for part in first["loc"]).replace("_", " ")
    return bad(
        f"{field or 'the job'}: {first['msg']}. Change it and submit again; the rest is as you left it."
    )


def _notice(kind: str, sign: str, text: str, detail: str = "") -> str:
    said = f"<small>{html.escape(detail)}</small>" if detail else ""
    role = "alert" if kind == "bad" else "status"
    return (
        f"<div class='notice {kind}' role='{role}'><span aria-hidden='true'>{sign}</span>"
        f"<div>{html.escape(text)}{said}</div></div>"
    )
