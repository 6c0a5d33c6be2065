"""Diffusion pipelines from a folder or the Hub: safetensors alone, every tensor in its place, or refused."""

from collections.abc import Collection
from importlib import import_module
from typing import Any, Protocol

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from retouche.errors import ModelFailure
from retouche.profile import ModelChoice, located
from services.checkpoint import require_all, unreadable
from services.diffusion import device

_NO_CHECKER = {"safety_checker": None, "feature_extractor": None}  # it blackens what it suspects: no picture
_SAVE = "`save_pretrained(FOLDER)` of a copy that you trust writes them, then name FOLDER"
_LIBRARIES = ("diffusers", "transformers")
_NOWHERE = {"": torch.device("meta")}  # names and shapes alone: no weight is read before all are known to fit


class Loads(Protocol):
    """Any diffusers pipeline class, or model class of diffusers or transformers."""

    __name__: str

    def from_pretrained(self, model: str, **options: Any) -> Any: ...


def load_pipeline(
    kind: Loads, choice: ModelChoice, made_for: Collection[str] = (), **parts: Any
) -> DiffusionPipeline:
    """A pipeline of `kind` with `parts` of the caller, on the accelerator if there is one.

    `made_for`: the pipelines whose folders will do, as their model_index.json names them; empty for any.

    Raises:
        ModelFailure: the folder is another pipeline's, its weights are no safetensors or not all there, or it
            cannot be had from the Hub; says which part of which model.
    """
    _quiet()
    try:
        index = DiffusionPipeline.load_config(located(choice.model), revision=choice.revision)
    except (OSError, ValueError) as error:
        raise unreadable(choice.model, error, _SAVE) from None
    if made_for and index["_class_name"] not in made_for:
        raise ModelFailure(
            f"{choice.model} is a {index['_class_name']}; {kind.__name__} needs a {' or '.join(made_for)}"
        )
    given = _NO_CHECKER | parts
    loaded = {
        name: load_part(model_class, choice.model, choice.revision, choice.dtype, name)
        for name, model_class in _models(index).items()
        if name not in given
    }
    try:
        pipeline = kind.from_pretrained(located(choice.model), revision=choice.revision, **loaded, **given)
    except (OSError, ValueError) as error:
        raise unreadable(choice.model, error, _SAVE) from None
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_part(model_class: Loads, model: str, revision: str | None, dtype: str, folder: str = "") -> Any:
    """One model, on the accelerator if there is one; `folder`: where it lies inside `model`.

    Raises:
        ModelFailure: its weights are no safetensors, or not exactly those of its configuration.
    """
    _quiet()
    name = f"{model}/{folder}" if folder else model
    options = {"subfolder": folder, "revision": revision or "main", "use_safetensors": True}
    try:
        _, report = model_class.from_pretrained(
            located(model),
            device_map=_NOWHERE,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
        require_all(
            name,
            model_class.__name__,
            missing=report["missing_keys"],
            unknown=report["unexpected_keys"],
            misshapen={key: (found, needed) for key, found, needed in report["mismatched_keys"]},
        )
        return model_class.from_pretrained(
            located(model), device_map={"": device()}, dtype=getattr(torch, dtype), **options
        )
    except (OSError, SafetensorError) as error:
        raise unreadable(name, error, _SAVE) from None


def _models(index: dict[str, Any]) -> dict[str, Any]:
    """The classes of a pipeline's parts that have weights, by the names of their folders."""
    named = {name: value for name, value in index.items() if isinstance(value, list | tuple)}
    classes = {
        name: getattr(import_module(library), class_name)
        for name, (library, class_name) in named.items()
        if library in _LIBRARIES
    }
    return {name: found for name, found in classes.items() if issubclass(found, torch.nn.Module)}


def _quiet() -> None:
    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
