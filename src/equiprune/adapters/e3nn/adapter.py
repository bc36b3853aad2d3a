"""The base of adapters whose upstream builds its modules with e3nn."""

from __future__ import annotations

from typing import Generic

import torch
from torch import nn

from equiprune.adapters.base import A, ModelAdapter
from equiprune.adapters.capabilities import BuildsForEvaluation
from equiprune.adapters.e3nn.fused_gradients import quicker_gradients


class E3nnAdapter(ModelAdapter[A], Generic[A]):
    """An adapter with the capability `BuildsForTraining`: one split in place of e3nn's slices (`fused_gradients`)."""

    def build_for_training(self, architecture: A, dtype: torch.dtype, /) -> nn.Module:
        with quicker_gradients():
            build = self.build_for_evaluation if isinstance(self, BuildsForEvaluation) else self.build
            return build(architecture, dtype)
