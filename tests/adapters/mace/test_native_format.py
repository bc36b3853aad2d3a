"""Native files of this architecture."""

import pytest
from golden_files import GoldenModel, NativeFormat

pytestmark = pytest.mark.usefixtures("plain_code")


class TestNativeFormat(NativeFormat):
    golden = (
        GoldenModel("mace-format-2", 2.6360062920487937),
        GoldenModel("mace-heads-format-2", 7.430508757404315, "r2scan"),
        GoldenModel("mace-charged-format-3", 1.3148413424288792),
    )
