"""Native files of this architecture."""

from golden_files import GoldenModel, NativeFormat


class TestNativeFormat(NativeFormat):
    golden = (GoldenModel("nequix-format-3", -18.474053257331988),)
