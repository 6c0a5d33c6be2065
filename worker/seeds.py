"""Seeds and identifiers, derived from content: a shard that runs twice makes the same images and pairs."""

import hashlib


def generation_seed(job_seed: int, prompt: str, image_index: int, repeat: int) -> int:
    """`repeat`: how many times this very prompt stood in the prompt set before."""
    return _hashed("generation", job_seed, prompt, image_index, repeat)


def editing_seed(generation: int, instruction: str, edit_index: int) -> int:
    return _hashed("editing", generation, instruction, edit_index)


def pair_id(prompt: str, chosen: str, rejected: str, instruction: str) -> str:
    return "pair-" + _digest(prompt, chosen, rejected, instruction)[:16]


def _hashed(*parts: object) -> int:
    return int(_digest(*parts)[:16], 16) >> 1


def _digest(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()
