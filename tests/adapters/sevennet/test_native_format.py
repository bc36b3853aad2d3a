"""Native files of this architecture."""

import pytest
from golden_files import GoldenModel, NativeFormat

pytestmark = pytest.mark.usefixtures("plain_code")


class TestNativeFormat(NativeFormat):
    golden = (
        GoldenModel("sevennet-format-2", 1.5006556733445962, "b"),
        GoldenModel("sevennet-readout-format-2", -0.45929254745420156),
    )
