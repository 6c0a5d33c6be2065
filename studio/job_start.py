"""What a job starts from: prompts in the box, a file of them, or images that exist already."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from retouche.client import AsyncRetouche
from retouche.contract.jobs import PromptSetInfo
from retouche.errors import BadPrompts
from retouche.intake.images import Side, Wanted
from retouche.intake.rows import Skipped

MOST_BYTES = 500_000_000  # of a file: what the gateway takes at once
_PROMPT_FILES = (".txt", ".jsonl", ".ndjson", ".csv")
_IMAGES = (".png", ".jpg", ".jpeg", ".webp")
_BESIDE = (".txt", ".jsonl", ".csv")
_SIDES = [("the rejected images", "rejected"), ("the chosen ones", "chosen"), ("both", "both")]


@dataclass(frozen=True)
class Start:
    """The components, in the order in which `read` takes their values."""

    prompts: gr.Textbox
    file: gr.File
    images: gr.File
    side: gr.Radio

    @property
    def inputs(self) -> list[Any]:
        return [self.prompts, self.file, self.images, self.side]


def build() -> Start:
    """A box for prompts, and where files are dropped."""
    prompts = gr.Textbox(
        label="Prompts, one a line",
        lines=6,
        max_lines=12,
        placeholder="a purple square above a red circle on a gray background",
        elem_id="prompts",
    )
    file = gr.File(
        label="or a file of them: .txt, .jsonl or .csv", type="filepath", height=140, elem_id="file"
    )
    with gr.Accordion("Or start from images that exist already", open=False):
        gr.HTML(
            "<p class='note'>Nothing is drawn then: each image is critiqued and edited as it is. Upload them "
            "with a .txt of the same name beside each, or with a metadata.jsonl or metadata.csv (file_name, "
            "prompt); or one .parquet file, of Pick-a-Pic’s pairs or with a column of images.</p>"
        )
        images = gr.File(
            label="Images with their prompts, or a .parquet file",
            type="filepath",
            file_count="multiple",
            height=140,
            elem_id="images",
        )
        side = gr.Radio(_SIDES, value="rejected", label="Of Pick-a-Pic’s pairs")
    gr.HTML(
        f"<p class='notice bad too-large' role='alert' data-most-bytes='{MOST_BYTES}' hidden></p>",
        elem_classes="refusal",
    )
    return Start(prompts, file, images, side)


async def read(
    client: AsyncRetouche,
    skipped: Skipped,
    prompts: str,
    file: str | None,
    images: Sequence[str] | None,
    side: Side,
) -> dict[str, Any]:
    """The fields of a job's specification that say what it starts from; files are uploaded.

    Raises:
        BadPrompts: there is nothing, more than one kind of it, or a file of another kind.
    """
    lines = [line.strip() for line in (prompts or "").splitlines() if line.strip()]
    given = [name for name, value in (("the box", lines), ("a file", file), ("images", images)) if value]
    if not given:
        raise BadPrompts("There are no prompts yet. Write one a line, or upload a file of them.")
    if len(given) > 1:
        raise BadPrompts(
            f"There is something to start from in {' and in '.join(given)}. Empty what you do not want."
        )
    if images:
        return {"prompt_set": (await _existing(client, images, side, skipped)).prompt_set}
    if file:
        return {"prompt_set": (await _prompt_file(client, Path(file), skipped)).prompt_set}
    return {"prompts": lines}


async def _prompt_file(client: AsyncRetouche, file: Path, skipped: Skipped) -> PromptSetInfo:
    if file.suffix.lower() not in _PROMPT_FILES:
        raise BadPrompts(
            f"{file.name} is not a file of prompts. Upload a text file with one prompt a line, or "
            "a .jsonl or .csv file with a column `prompt`."
        )
    with _named_as_uploaded(file.parent, skipped):
        return await client.upload_prompts(file, skipped=skipped)


async def _existing(
    client: AsyncRetouche, files: Sequence[str], side: Side, skipped: Skipped
) -> PromptSetInfo:
    paths = [Path(file) for file in files]
    kinds = {path.suffix.lower() for path in paths}
    if other := [path.name for path in paths if path.suffix.lower() not in (*_IMAGES, *_BESIDE, ".parquet")]:
        raise BadPrompts(
            f"{other[0]} is neither an image nor a file of prompts. Upload .png, .jpg or .webp images with "
            "their prompts, or one .parquet file."
        )
    if ".parquet" in kinds and len(paths) > 1:
        raise BadPrompts("One .parquet file stands alone. Remove the others, and upload them as another job.")
    if not kinds & {*_IMAGES, ".parquet"}:
        raise BadPrompts("There are prompts without images. Upload the images too, or use the field above.")
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:  # each was uploaded into a folder of its own
            shutil.copy(path, folder)
        source = Path(folder) / paths[0].name if ".parquet" in kinds else Path(folder)
        with _named_as_uploaded(Path(folder), skipped):
            return await client.upload_images(source, Wanted(side=side), skipped=skipped)


@contextmanager
def _named_as_uploaded(folder: Path, skipped: Skipped) -> Iterator[None]:
    """Errors and problems name files as the visitor does, not as they lie here."""
    try:
        yield
    except BadPrompts as error:
        raise BadPrompts(error.detail.replace(f"{folder}/", "").replace(str(folder), "The upload")) from None
    finally:
        skipped.problems = [problem.replace(f"{folder}/", "") for problem in skipped.problems]
