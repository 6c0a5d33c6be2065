"""Diffusion pipelines from a folder or the Hub: safetensors alone, every tensor in its place, or refused."""

from collections.abc import Collection
from importlib import import_module
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging

from retouche.errors import ModelFailure
from retouche.profile import ModelChoice, located
from services.checkpoint import SAVE, load_part, unreadable

_NO_CHECKER = {"safety_checker": None, "feature_extractor": None}  # it blackens what it suspects: no picture
_LIBRARIES = ("diffusers", "transformers")


def load_pipeline(
    kind: type[Any], choice: ModelChoice, made_for: Collection[str] = (), **parts: Any
) -> DiffusionPipeline:
    """A pipeline of `kind` with `parts` of the caller, on the accelerator if there is one.

    `made_for`: the pipelines whose folders will do, as their model_index.json names them; empty for any.

    Raises:
        ModelFailure: the folder is another pipeline's, its weights are no safetensors or not all there, or it
            cannot be had from the Hub; says which part of which model.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        index = DiffusionPipeline.load_config(located(choice.model), revision=choice.revision)
    except (OSError, ValueError) as error:
        raise unreadable(choice.model, error, SAVE) from None
    if made_for and index["_class_name"] not in made_for:
        raise ModelFailure(
            f"{choice.model} is a {index['_class_name']}; {kind.__name__} needs a {' or '.join(made_for)}"
        )
    given = _NO_CHECKER | parts
    loaded = {
        name: load_part(model_class, choice.model, choice.revision, choice.dtype, name)
        for name, model_class in _models(choice.model, index, given).items()
    }
    try:
        pipeline = kind.from_pretrained(located(choice.model), revision=choice.revision, **loaded, **given)
    except (OSError, ValueError) as error:
        raise unreadable(choice.model, error, SAVE) from None
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _models(model: str, index: dict[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The classes of a pipeline's parts that have weights, by the names of their folders; without `given`.

    Raises:
        ModelFailure: its library has no such class.
    """
    named = {name: value for name, value in index.items() if isinstance(value, list | tuple)}
    classes = {
        name: _class(f"{model}/{name}", library, class_name)
        for name, (library, class_name) in named.items()
        if library in _LIBRARIES and name not in given
    }
    return {name: found for name, found in classes.items() if issubclass(found, torch.nn.Module)}


def _class(part: str, library: str, name: str) -> Any:
    module = import_module(library)
    found = getattr(module, name, None)
    if found is None:
        raise ModelFailure(
            f"{part} is a {name}, which {library} {module.__version__} does not have: name its successor in "
            f"model_index.json, or install a {library} that has it"
        )
    return found
