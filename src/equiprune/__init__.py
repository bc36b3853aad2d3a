"""Make large equivariant interatomic potentials smaller and faster, with the numbers right.

The whole public interface is on this page. A pruned model starts from its parent's weights and is an ordinary model
of the same family::

    import equiprune as ep

    parent = ep.load("7net-l3i5")
    scores = ep.calibrate(parent, "structures.extxyz")
    plan = ep.allocate(parent, [ep.HiddenIrreps.parse("64x0e+32x1e+16x2e"), ep.EdgeLmax(2)], scores)
    ep.save(ep.prune(parent, plan), "small.pth")

It is then retrained on labels of its parent, and fine-tuned (`label`, `train`). Commands of the command line are one
call each (`commands`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equiprune import commands as commands
    from equiprune.api import *  # noqa: F403

    __version__: str
else:

    def __getattr__(name: str) -> Any:
        """Import what is asked for: `commands`, the version, or the rest, whose parts know each other's records."""
        if name == "commands":
            return import_module("equiprune.commands")
        if name == "__version__":
            return import_module("importlib.metadata").version("equiprune")
        if name == "__all__" or not name.startswith("_"):
            api = import_module("equiprune.api")
            public = {public: getattr(api, public) for public in api.__all__} | {"__all__": [*api.__all__, "commands"]}
            found = globals() | public  # the folders are there, too, once they are imported
            if name in found:
                return found[name]
        raise AttributeError(f"module 'equiprune' has no attribute '{name}'")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})
