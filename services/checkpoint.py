"""Published weights: safetensors alone, and nothing is served of which a tensor is missing or unknown."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file

from retouche.errors import ModelFailure
from retouche.profile import located
from services.diffusion import device

WEIGHTS = "model.safetensors"
_PICKLES = (".pt", ".pth", ".bin", ".ckpt")
SAVE = "`save_pretrained(FOLDER)` of a copy that you trust writes them, then name FOLDER"
CONVERT = "`python -m services.reward.convert FILE FOLDER` writes them, then name FOLDER"
_SHOWN = 3  # names of each kind of fault
_NOWHERE = {"": torch.device("meta")}  # names and shapes alone: no weight is read before all are known to fit

Weights = dict[str, torch.Tensor]
Misshapen = Mapping[str, tuple[torch.Size, torch.Size]]  # by name: the shape found, the shape needed


def read(model: str, revision: str | None) -> Weights:
    """The tensors of `model.safetensors` in a folder or a Hub repository, on the CPU.

    Raises:
        ModelFailure: there is none or it cannot be read; names the pickle there is instead.
    """
    try:
        return load_file(str(cached_file(located(model), WEIGHTS, revision=revision or "main")))
    except (OSError, SafetensorError) as error:
        raise unreadable(model, error) from None


def load_part(
    model_class: type[Any],
    model: str,
    revision: str | None,
    dtype: str,
    folder: str = "",
    way_out: str = SAVE,
) -> Any:
    """One model of diffusers or transformers, on the accelerator if there is one.

    `folder`: where it lies inside `model`.

    Raises:
        ModelFailure: its weights are no safetensors, which `way_out` makes, or not exactly those of its
            configuration.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
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
        raise unreadable(name, error, way_out) from None


def unreadable(model: str, error: BaseException, to_safetensors: str = CONVERT) -> ModelFailure:
    """Why there are no weights to read, and what to do about it."""
    causes = list(_causes(error))
    if refusal := next((cause for cause in causes if isinstance(cause, RepositoryNotFoundError)), None):
        return _refused(model, gated=isinstance(refusal, GatedRepoError))
    if damage := next((cause for cause in causes if isinstance(cause, SafetensorError)), None):
        return ModelFailure(
            f"{model}: its weights are not a safetensors file ({damage}); a pickle that is renamed stays "
            f"one: {to_safetensors}"
        )
    path = Path(located(model))
    pickles = [file for file in (path, *sorted(path.glob("*"))) if file.suffix in _PICKLES]
    if pickles:
        return ModelFailure(
            f"{model}: {pickles[0].name} is a pickle, which may run code when it is read; safetensors are "
            f"expected: {to_safetensors}"
        )
    return ModelFailure(f"{model} cannot be read: {error}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _refused(model: str, gated: bool) -> ModelFailure:
    if gated:
        return ModelFailure(
            f"{model} is gated: accept its licence at https://huggingface.co/{model} and set HF_TOKEN to a "
            "token of that account"
        )
    return ModelFailure(
        f"{model} is neither a folder here nor a public repository of the Hub; mend the profile, or set "
        "HF_TOKEN if it is private"
    )


def require_file(model: str, name: str) -> None:
    """Nothing, unless `model` is a folder without that file: transformers would go on with defaults.

    Raises:
        ModelFailure: it is, and has none.
    """
    folder = Path(located(model))
    if folder.is_dir() and not (folder / name).is_file():
        raise ModelFailure(
            f"{model} has no {name}; as `base` of the reward model in the profile, name the folder or Hub id "
            "that it was trained from"
        )


def require_all(
    model: str,
    kind: str,
    *,
    missing: Collection[str],
    unknown: Collection[str],
    misshapen: Misshapen,
) -> None:
    """Nothing, where the tensors of `model` are exactly those of `kind`.

    Raises:
        ModelFailure: they are not; counts each kind of fault and names the first.
    """
    shapes = [f"{name} is {list(found)}, not {list(needed)}" for name, (found, needed) in misshapen.items()]
    faults = {"missing": missing, "not part of it": unknown, "of another shape": shapes}
    told = [f"{len(names)} {fault} ({_first(names)})" for fault, names in faults.items() if names]
    if told:
        raise ModelFailure(f"{model} does not hold the tensors of {kind}: {'; '.join(told)}")


def fit(network: nn.Module, weights: Weights, model: str, kind: str, unused: tuple[str, ...] = ()) -> None:
    """Give a network on the meta device its weights; tensors whose names begin with `unused` are left out.

    Raises:
        ModelFailure: the weights are not exactly those of the network.
    """
    needed = network.state_dict()
    found = {name: tensor for name, tensor in weights.items() if not name.startswith(unused)}
    require_all(
        model,
        kind,
        missing=needed.keys() - found.keys(),
        unknown=found.keys() - needed.keys(),
        misshapen={
            name: (found[name].shape, needed[name].shape)
            for name in needed.keys() & found.keys()
            if found[name].shape != needed[name].shape
        },
    )
    network.load_state_dict(found, assign=True)


def _first(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return f"{shown}, ..." if len(names) > _SHOWN else shown
