"""The laws of the core on random models of several kinds, each built once, since no law changes them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest
from plain_code import code_for

from equiprune.adapters import Checkpoint
from equiprune.potentials.potential import Potential
from equiprune.testing import AdapterContract


class ContractOfKinds(AdapterContract):
    """A subclass gives ``kinds`` and ``random_checkpoint``, and its module a fixture that sets ``kind`` for the class.

    Code is stock only where a law is about it, since it takes long to build.
    """

    kinds: ClassVar[Mapping[str, Any]]
    random_checkpoint: ClassVar[Callable[[Any], Checkpoint]]
    kind: ClassVar[str] = ""
    code: ClassVar[str] = "stock"
    _drawn: ClassVar[dict[str, Checkpoint]]
    _built: ClassVar[dict[tuple[str, str], Potential]]

    def __init_subclass__(cls) -> None:
        cls._drawn, cls._built = {}, {}

    @pytest.fixture(autouse=True)
    def _code(self, request: pytest.FixtureRequest) -> Iterator[None]:
        with code_for(request.function) as type(self).code:
            yield

    def checkpoints(self) -> Sequence[Checkpoint]:
        if self.kind not in self._drawn:
            self._drawn[self.kind] = type(self).random_checkpoint(self.kinds[self.kind])
        return [self._drawn[self.kind]]

    def potentials(self) -> Iterator[Potential]:
        made = (self.kind, self.code)
        if made not in self._built:
            [self._built[made]] = super().potentials()
        yield self._built[made]
