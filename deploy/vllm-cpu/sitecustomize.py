"""Declare torchvision's two fake-registered operators before its first import.

torchvision's wheel has them only with CUDA, and its import stops where they are unknown. vLLM uses its
transforms alone. Python runs this file at every start because of its name.
"""

import importlib.abc
import sys
from collections.abc import Sequence
from types import ModuleType

_OPERATORS = ("nms", "qnms")


class _DeclareOperators(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            for name in _OPERATORS:
                torch.library.define(
                    f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )


sys.meta_path.insert(0, _DeclareOperators())
