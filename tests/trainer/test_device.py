"""Choice of the device and of the CPU instruction set."""

from pathlib import Path

import pytest

from pipeline.errors import UserError
from trainer import device


def test_avx512_is_disabled_for_onednn_unless_the_user_decides():
    for environment, flags, expected in (
        ({}, "fpu avx2 avx512f avx512bw", "AVX2"),
        ({}, "fpu avx2", None),
        ({device.INSTRUCTION_SET_VARIABLE: "AVX"}, "avx512f", "AVX"),
    ):
        before = dict(environment)
        device.limit_instruction_set(environment, flags)
        assert environment.get(device.INSTRUCTION_SET_VARIABLE) == expected
        device.limit_instruction_set(environment, flags)  # in a child process
        device.lift_limit(environment)
        assert environment == before


@pytest.mark.skipif(Path("/dev/davinci_manager").exists(), reason="this machine has an Ascend")
def test_a_missing_device_is_refused():
    with pytest.raises(UserError, match="--device-target Ascend"):
        device.choose_device("Ascend")
    assert device.choose_device("CPU") == "CPU"
