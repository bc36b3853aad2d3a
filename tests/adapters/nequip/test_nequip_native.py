"""Native files of this architecture."""

from golden_files import GoldenModel, NativeFormat


class TestNativeFormat(NativeFormat):
    golden = (GoldenModel("nequip-format-3", 4.51116859123231),)
