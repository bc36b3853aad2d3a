"""Native files of this architecture."""

from golden_files import GoldenModel, NativeFormat


class TestNativeFormat(NativeFormat):
    golden = (GoldenModel("escn-format-2", 0.012066554458629511),)
