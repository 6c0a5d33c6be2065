"""`retouche convert`: published checkpoints to what the services load."""

from pathlib import Path
from typing import Annotated

import typer

from retouche.cli.terminal import Json, console, errors, print_json
from retouche.conversion import llava_critic

app = typer.Typer(no_args_is_help=True)


@app.callback()
def convert() -> None:
    """Published checkpoints to what the services load."""


@app.command("llava-critic")
def llava(
    source: Annotated[Path, typer.Argument(help="Folder of lmms-lab/llava-critic-7b.")],
    target: Annotated[Path, typer.Argument(help="The new folder.")],
    as_json: Json = False,
) -> None:
    """LLaVA-NeXT's weights (LlavaQwenForCausalLM) as LlavaOnevision, for transformers and vLLM."""
    with errors():
        count = llava_critic.convert(source, target)
    if as_json:
        print_json({"tensors": count, "folder": str(target)})
    else:
        console.print(f"{count} tensors in {target}; serve it with `vllm serve {target}`", soft_wrap=True)
