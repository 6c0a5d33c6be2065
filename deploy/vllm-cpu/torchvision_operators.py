"""Let torchvision be imported where its compiled part, built for CUDA, cannot be loaded.

Its import wants to name two operators that only the compiled part declares; vLLM uses its transforms alone.
Python runs this at every start, by a .pth file: a sitecustomize.py would be hidden behind Debian's own.
"""

import ctypes
import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

_OPERATORS = ("nms", "qnms")


class _DeclareOperators(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            _declare_operators()


def _declare_operators() -> None:
    import torch

    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return
    try:
        ctypes.CDLL(str(Path(found.origin).with_name("_C.so")))
    except OSError:
        for name in _OPERATORS:
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", signature)


sys.meta_path.insert(0, _DeclareOperators())
