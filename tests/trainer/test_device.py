"""Choice of the device, its options and its start-up errors, and the CPU instruction set."""

from pathlib import Path
from unittest import mock

import mindspore as ms
import mindspore.communication
import pytest
import yaml
from mindspore.run_check._check_version import AscendEnvChecker

from evaluator.export.config import ExportConfig
from evaluator.jobs.config import RunConfig, WatchConfig
from evaluator.predict.config import PredictConfig
from pipeline.cli import parse
from pipeline.errors import UserError
from pipeline.parsing import option_types
from trainer import device
from trainer.commands.bench_step import BenchStepConfig
from trainer.config import TrainConfig
from trainer.device import DeviceConfig, choose_device
from trainer.loop import train


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
def test_a_missing_plugin_is_explained_with_the_libraries_and_the_versions_of_cann():
    with pytest.raises(UserError) as caught:
        choose_device(DeviceConfig(device_target="Ascend"))
    message = str(caught.value)
    assert message.startswith("--device-target Ascend: MindSpore cannot load its Ascend plugin")
    assert "libmindspore_ascend.so.2 failed. lib" in message and "cannot open shared object file" in message
    assert "8.2, 8.3, 8.5, 9.0 or 9.1" in message and "set_env.sh" in message
    assert "\n" not in message and "Call Stack" not in message
    assert choose_device(DeviceConfig(device_target="CPU")) == "CPU"


def test_the_versions_of_cann_are_those_of_the_installed_mindspore():
    assert list(device.CANN_VERSIONS) == AscendEnvChecker(None).version


def test_the_installed_version_of_cann_is_named(tmp_path, monkeypatch):
    assert device._installed_cann() == ""
    (tmp_path / "compiler").mkdir()
    (tmp_path / "compiler" / "version.info").write_text("Version=7.0.0.1\nversion_dir=7\n")
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    assert device._installed_cann() == f" (found 7.0.0.1 in {tmp_path})"


def test_another_error_of_the_device_is_shown(monkeypatch):
    monkeypatch.setattr(ms, "set_device", mock.Mock(side_effect=RuntimeError("\nInvalid device id 9.\n- C++ Call Stack")))
    with pytest.raises(UserError, match=r"Invalid device id 9\.; check --device-id and the driver"):
        choose_device(DeviceConfig(device_target="Ascend", device_id=9))


@pytest.fixture
def calls(monkeypatch):
    """Replaces MindSpore's settings of an Ascend device by mocks with the same signatures, and records their calls."""
    recorder = mock.Mock()
    precision = ms.device_context.ascend.op_precision
    for place, name in (
        (ms, "set_device"),
        (ms.runtime, "set_memory"),
        (ms, "set_deterministic"),
        (precision, "conv_allow_hf32"),
        (precision, "matmul_allow_hf32"),
        (mindspore.communication, "init"),
    ):
        fake = mock.create_autospec(getattr(place, name))
        recorder.attach_mock(fake, name)
        monkeypatch.setattr(place, name, fake)
    return recorder.mock_calls


def test_an_ascend_computes_in_full_float32_by_default(calls):
    assert choose_device(DeviceConfig(device_target="Ascend", device_id=3)) == "Ascend"
    assert calls == [mock.call.set_device("Ascend", 3), mock.call.conv_allow_hf32(False), mock.call.matmul_allow_hf32(False)]


def test_training_configures_the_device_before_it_joins_the_other_processes(calls, monkeypatch):
    """MindSpore accepts these settings only after set_device, and deterministic collectives only before init."""
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    monkeypatch.setenv("DEVICE_ID", "5")
    monkeypatch.setattr(train, "Stream", mock.Mock(side_effect=UserError("the stream comes next")))
    monkeypatch.setattr(mindspore.communication, "get_rank", lambda: 0)
    monkeypatch.setattr(mindspore.communication, "get_group_size", lambda: 2)
    options = DeviceConfig(device_target="Ascend", max_device_memory="1.5GB", deterministic=True, hf32=True)
    with pytest.raises(UserError, match="the stream comes next"):
        train.run(TrainConfig(records=Path("r"), out=Path("o"), device=options))
    assert calls == [
        mock.call.set_device("Ascend", 5),
        mock.call.set_memory(init_size="1.5GB", max_size="1.5GB"),
        mock.call.set_deterministic(True),
        mock.call.conv_allow_hf32(True),
        mock.call.matmul_allow_hf32(True),
        mock.call.init(),
    ]


def test_a_memory_limit_that_would_do_nothing_is_refused():
    with pytest.raises(UserError, match="--max-device-memory: works only on an Ascend device"):
        choose_device(DeviceConfig(device_target="CPU", max_device_memory="30GB"))
    with pytest.raises(UserError, match="--device-id: works only on an Ascend device"):
        choose_device(DeviceConfig(device_target="CPU", device_id=99))
    assert choose_device(DeviceConfig(device_target="CPU"), device_id=1) == "CPU"  # as the launcher numbers its ranks


@pytest.mark.parametrize("limit", ["30", "30 GB", "0GB", "0.0GB", "-1GB", "GB"])
def test_a_memory_limit_that_mindspore_does_not_accept_is_a_wrong_option(limit):
    with pytest.raises(ValueError, match="max_device_memory must be a number of gigabytes such as 30GB"):
        DeviceConfig(max_device_memory=limit)


@pytest.mark.parametrize("config", [TrainConfig, BenchStepConfig, RunConfig, WatchConfig, PredictConfig, ExportConfig])
def test_every_command_that_runs_a_network_takes_the_options_of_the_device(config):
    assert option_types(config).keys() >= DeviceConfig.__dataclass_fields__.keys()


def test_an_older_configuration_file_is_read(tmp_path):
    """Its device options were fields of the command itself."""
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"records": "r", "out": "o", "device_target": "CPU", "device_id": 2}))
    assert parse(TrainConfig, ["--config", str(file)], prog="train").device == DeviceConfig(device_target="CPU", device_id=2)
