"""Models for training, every tensor from the file: a run on one drawn at random would be worth nothing."""

from collections.abc import Collection
from typing import Any

import torch
from safetensors import SafetensorError

from trainer.refusal import refused

_SHOWN = 3  # names of tensors


def load_whole(
    model_class: type[Any],
    model: str,
    revision: str | None,
    dtype: torch.dtype,
    folder: str = "",
    field: str = "base",
) -> Any:
    """A model of diffusers or transformers, on the CPU; `folder`: where it lies inside `model`.

    Raises:
        BadRequest: it cannot be read, is no safetensors, or lacks tensors; names them, and the run's `field`.
    """
    name = f"{model}/{folder}" if folder else model
    try:
        loaded, report = model_class.from_pretrained(
            model,
            subfolder=folder,
            revision=revision or "main",
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are reported, with all other faults
        )
    except (OSError, SafetensorError) as error:
        raise refused(field, f"{name} cannot be read: {error}") from None
    lacking = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    if lacking:
        raise refused(
            field,
            f"{name} lacks {len(lacking)} tensors of a {model_class.__name__}, or has them in another shape "
            f"({_first(lacking)}); name a whole model",
        )
    return loaded


def _first(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return f"{shown}, ..." if len(names) > _SHOWN else shown
