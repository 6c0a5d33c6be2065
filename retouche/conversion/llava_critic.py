"""LLaVA-Critic (arXiv 2410.02712) and its base LLaVA-OneVision, from LLaVA-NeXT's layout to transformers'.

lmms-lab publishes `LlavaQwenForCausalLM`, which transformers and vLLM do not load; both load the same weights
as `LlavaOnevisionForConditionalGeneration`.
"""

import json
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from retouche.conversion import llava_files as files
from retouche.conversion.llava_layout import (
    VISION_HEAD,
    LlavaConfig,
    VisionSizes,
    needed,
    renamed,
    vision_sizes,
)
from retouche.conversion.safetensors_files import Tensor, tensors_in, write_tensors
from retouche.errors import BadRequest

_SHOWN = 3  # names of each kind of fault
_COMPUTED = ".inv_freq"  # kept by old versions, and computed by all
_VOCABULARY = ("model.embed_tokens.weight", "lm_head.weight")


def convert(source: Path, target: Path) -> int:
    """Write the checkpoint of folder `source` to the new folder `target`; returns how many tensors it has.

    Weights keep their precision and their bytes, and need no memory to speak of. If it fails, or is killed,
    there is no `target`.

    Raises:
        BadRequest: `target` is there; `source` is another model, or a file or tensor is missing, unknown, cut
            short or a pickle: names it.
    """
    if target.exists():
        raise BadRequest(f"{target} is there already; name a new folder")
    original, config = _read_config(source)
    tensors = {name: tensor for name, tensor in tensors_in(source).items() if not name.endswith(_COMPUTED)}
    vision = _checked(source, config, tensors)
    tokenizer, tokens = files.tokenizer(source)
    rows = max(config.vocab_size, *(number + 1 for number in tokens.values()))
    for name in _VOCABULARY:
        if name in tensors:
            tensors[name] = tensors[name].with_rows(rows)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as unfinished:
        folder = Path(unfinished) / target.name
        folder.mkdir()
        write_tensors(folder, {renamed(name): tensor for name, tensor in tensors.items()})
        files.write_beside(folder, source, files.model_config(original, config, vision, tokens), tokenizer)
        if (source / "generation_config.json").is_file():
            shutil.copy(source / "generation_config.json", folder)
        folder.rename(target)
    return len(tensors)


def _read_config(source: Path) -> tuple[dict[str, Any], LlavaConfig]:
    """config.json, as it is and as far as it is understood.

    Raises:
        BadRequest: it is not there, not that of the model, or asks for parts that LlavaOnevision has not.
    """
    path = source / "config.json"
    try:
        content = path.read_bytes()
        config = LlavaConfig.model_validate_json(content)
    except FileNotFoundError:
        raise BadRequest(f"there is no {path}; name the folder of a LLaVA-NeXT checkpoint") from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise BadRequest(f"{path} is not LLaVA-NeXT's configuration: {where}: {problem['msg']}") from None
    wanted = {
        "architectures": config.architectures == ("LlavaQwenForCausalLM",),
        "mm_projector_type": config.mm_projector_type == "mlp2x_gelu",
        "mm_patch_merge_type": config.mm_patch_merge_type == "spatial_unpad",
        "image_aspect_ratio": config.image_aspect_ratio.startswith("anyres_max_"),
    }
    for field, fits in wanted.items():
        if not fits:
            raise BadRequest(
                f"{path} has {field} {getattr(config, field)!r}; a LlavaQwenForCausalLM with mlp2x_gelu, "
                "spatial_unpad and anyres_max_N can be converted"
            )
    return json.loads(content), config


def _checked(source: Path, config: LlavaConfig, tensors: Mapping[str, Tensor]) -> VisionSizes:
    """The sizes of the vision tower, where the tensors are exactly those of the model.

    Raises:
        BadRequest: they are not; counts each kind of fault and names the first.
    """
    try:
        vision = vision_sizes(tensors)
    except KeyError as error:
        raise BadRequest(
            f"{source} lacks {error.args[0]}: its vision tower is not in the checkpoint"
        ) from None
    except ValueError:
        raise BadRequest(f"{source} has a vision tower of another kind than SigLIP's") from None
    shapes = needed(config, vision)
    optional = {"lm_head.weight"} if config.tie_word_embeddings else set()
    misshapen = [
        f"{name} is {list(tensors[name].shape)}, not {list(shape)}"
        for name, shape in shapes.items()
        if name in tensors and tensors[name].shape != shape
    ]
    faults = {
        "missing": shapes.keys() - tensors.keys(),
        "not part of it": tensors.keys() - shapes.keys() - optional,
        "of another shape": misshapen,
    }
    told = [f"{len(names)} {fault} ({_first(names)})" for fault, names in faults.items() if names]
    if told:
        raise BadRequest(f"{source} does not hold the tensors of its configuration: {'; '.join(told)}")
    if vision.hidden_size % VISION_HEAD:
        raise BadRequest(f"{source} has a vision tower {vision.hidden_size} wide: SigLIP so400m is needed")
    return vision


def _first(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return f"{shown}, ..." if len(names) > _SHOWN else shown
