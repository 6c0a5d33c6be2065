"""`python -m services.reward.convert SRC DST`: a published .pt or .pth as DST/model.safetensors.

HPSv2, ImageReward and the aesthetic predictor are published as pickles, which may run code when they are
read. Services read safetensors alone; a pickle is read here, once and by hand, by torch's unpickler that
makes tensors and plain containers and refuses everything else (`weights_only`).
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import save_file

from retouche.errors import BadRequest
from services.checkpoint import WEIGHTS, Weights


def convert(source: Path, folder: Path) -> Weights:
    """Write the tensors of a checkpoint to `folder`, under their own names, and return them.

    A checkpoint that holds its tensors under `state_dict`, beside what else training kept, gives those.

    Raises:
        BadRequest: the file is not there, is no checkpoint of tensors, or would run code when read.
    """
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        cause = str(error).partition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
        raise BadRequest(f"{source} holds more than tensors and is not read: {cause}") from None
    except (OSError, RuntimeError, EOFError) as error:
        raise BadRequest(f"{source} cannot be read as a PyTorch checkpoint: {error}") from None
    weights = _tensors(content)
    if not weights:
        raise BadRequest(f"{source} holds no tensors by name, nor under 'state_dict'")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / WEIGHTS)
    return weights


def _tensors(content: object) -> Weights:
    """Those of a mapping by name; copied, since safetensors takes no two that share memory."""
    if not isinstance(content, Mapping):
        return {}
    held = content.get("state_dict", content)
    named = held.items() if isinstance(held, Mapping) else ()
    return {name: tensor.clone().contiguous() for name, tensor in named if isinstance(tensor, torch.Tensor)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="HPS_v2.1_compressed.pt, say")
    parser.add_argument("folder", type=Path, help="what the profile then names as the model")
    options = parser.parse_args()
    try:
        weights = convert(options.source, options.folder)
    except BadRequest as error:
        sys.exit(str(error))
    print(f"{len(weights)} tensors in {options.folder / WEIGHTS}")


if __name__ == "__main__":
    main()
