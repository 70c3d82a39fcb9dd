"""Where a host is in a job: options, Slurm, mpirun, rank tables. No processes."""

import dataclasses
import json

import pytest

from pipeline.errors import UserError
from trainer.distributed import launch
from trainer.distributed.config import LaunchConfig
from trainer.distributed.launch import job_spec, place
from trainer.distributed.placement import Placement, detect_placement, expand_hosts, resolve
from trainer.distributed.rank_table import read_rank_table

SLURM = {
    "SLURM_NNODES": "3", "SLURM_NODEID": "2", "SLURM_JOB_NODELIST": "gpu[09-10,12]", "SLURM_JOB_ID": "70000", "SLURM_STEP_ID": "0",
}  # fmt: skip
TRAIN = ("train", "--records", "r", "--out", "o")


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("login", ["login"]),
        ("a1,b2", ["a1", "b2"]),
        ("gpu[01-03,7],login", ["gpu01", "gpu02", "gpu03", "gpu7", "login"]),
        ("rack[1-2]n[09-10]", ["rack1n09", "rack1n10", "rack2n09", "rack2n10"]),
        ("n[1].cluster.org", ["n1.cluster.org"]),
        ("", []),
    ],
)
def test_host_lists_of_slurm_are_expanded(text, hosts):
    assert expand_hosts(text) == hosts


def test_an_unknown_host_list_is_named():
    with pytest.raises(UserError, match=r"SLURM_JOB_NODELIST: cannot read the range 'x-3'"):
        expand_hosts("n[x-3]")


@pytest.mark.parametrize("name", ["SLURM_NNODES", "SLURM_NODEID", "SLURM_JOB_ID", "SLURM_STEP_NUM_TASKS"])
@pytest.mark.parametrize("value", ["abc", "-1", "1" * 30])
def test_a_variable_that_is_no_number_is_named(name, value):
    with pytest.raises(UserError, match=f"{name}: expected a number, got '{value[:40]}'"):
        detect_placement({**SLURM, name: value})


def test_slurm_places_a_host():
    found = detect_placement(SLURM)
    assert found == Placement(nodes=3, node_rank=2, master_addr="gpu09", master_port=16_384 + 70_000 % 16_000)
    step = {"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "x[1-2]", "SLURM_NODEID": "1"}
    assert detect_placement({**SLURM, **step}).nodes == 2 and detect_placement({**SLURM, **step}).master_addr == "x1"


def test_a_batch_script_that_starts_one_of_several_hosts_without_srun_is_refused(monkeypatch):
    """It would wait for the others until --meet-seconds."""
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_STEP_ID")
    with pytest.raises(UserError, match=r"has 3 hosts, but `launch` was started on one of them.*srun --ntasks-per-node=1 python"):
        place(LaunchConfig(command=TRAIN))
    assert place(LaunchConfig(command=TRAIN, nodes=1)) == Placement(nodes=1, node_rank=0)
    monkeypatch.setenv("SLURM_NNODES", "1")
    assert place(LaunchConfig(command=TRAIN)).nodes == 1


def test_mpirun_within_a_slurm_job_places_a_host():
    """Its step of Slurm has one host less than the job: mpirun starts the processes of its own host by itself."""
    mpirun = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "3", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2"}
    assert detect_placement({**SLURM, **mpirun}) == Placement(nodes=3, node_rank=1)
    srun = {"PMI_RANK": "2", "PMI_SIZE": "3"}  # set by srun --mpi=pmi2
    assert detect_placement({**SLURM, **srun}).master_addr == "gpu09"


def test_several_tasks_per_host_are_refused():
    with pytest.raises(UserError, match="srun --ntasks-per-node=1"):
        detect_placement({**SLURM, "SLURM_STEP_NUM_TASKS": "24"})
    with pytest.raises(UserError, match="mpirun -N 1"):
        detect_placement({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"})


@pytest.mark.parametrize("names", [("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE")])
def test_mpirun_places_a_host_whose_address_must_be_given(names, monkeypatch):
    for name, value in zip(names, ("1", "2"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="pass --master-addr and --master-port"):
        place(LaunchConfig(command=TRAIN))
    found = place(LaunchConfig(command=TRAIN, master_addr="head", master_port=8118))
    assert found == Placement(nodes=2, node_rank=1, master_addr="head", master_port=8118)


def test_outside_of_a_scheduler_there_is_one_host(monkeypatch):
    for name in ("SLURM_NODEID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert detect_placement({"SLURM_NNODES": "4"}) is None  # in an allocation, but not in a step of it
    assert place(LaunchConfig(command=TRAIN)) == Placement(nodes=1, node_rank=0)


def test_options_win_over_slurm(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    config = LaunchConfig(command=TRAIN, nodes=2, node_rank=1, master_addr="h", master_port=9)
    assert place(config) == Placement(nodes=2, node_rank=1, master_addr="h", master_port=9)
    assert place(LaunchConfig(command=TRAIN)).node_rank == 2


def test_names_are_resolved_and_unknown_ones_named():
    assert resolve("127.0.0.1") == resolve("localhost") == "127.0.0.1"
    with pytest.raises(UserError, match=r"--master-addr no\.such\.host\.invalid: cannot be resolved"):
        resolve("no.such.host.invalid")


def test_a_used_port_is_named():
    with launch.socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        config = LaunchConfig(command=TRAIN, nodes=2, master_addr="127.0.0.1", master_port=port)
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}"):
            job_spec(config, place(config))


def test_a_port_has_one_launcher_before_its_scheduler_listens(tmp_path):
    """The ranks of the second job would join the scheduler of the first."""
    config = LaunchConfig(command=TRAIN)
    spec = job_spec(config, place(config))
    with launch._claimed_port(spec):
        with (
            pytest.raises(UserError, match=f"another `launch` on this machine uses port {spec.port}; pass another --master-port"),
            launch._claimed_port(spec),
        ):
            pass
        with launch._claimed_port(dataclasses.replace(spec, nodes=2, node_rank=1)):  # has no scheduler
            pass
    with launch._claimed_port(spec):
        pass


def test_launch_deletes_its_own_files_alone(tmp_path):
    own = tmp_path / "run.ranks" / "host-0"
    own.mkdir(parents=True)
    mine = ["rank-0.log", "rank-12.log", "scheduler.log", "host.json"]
    others = ["rank-notes.log", "rank-0.log.old", "notes.txt", "../host-1/rank-0.log", "../table.json"]
    (own.parent / "host-1").mkdir()
    for name in mine + others:
        (own / name).write_text("x")
    with launch._claimed(own):
        assert not [name for name in mine if (own / name).exists()]
        with pytest.raises(UserError, match="another `launch` is writing there"), launch._claimed(own):
            pass
        (own / "rank-0.log").write_text("y")
    assert all((own / name).read_text() == "x" for name in others) and (own / "rank-0.log").exists()


def table(tmp_path, *hosts):
    servers = [{"device": [{"device_id": str(d), "rank_id": str(r)} for r, d in host.items()]} for host in hosts]
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"version": "1.0", "server_list": servers}))
    return path


def test_a_rank_table_gives_the_devices_of_a_host(tmp_path):
    found = read_rank_table(table(tmp_path, {0: 4, 1: 5}, {2: 0, 3: 7}))
    assert found.host_devices(1, nodes=2, workers=2) == {2: 0, 3: 7}
    with pytest.raises(UserError, match="has 2 hosts, the job has 1"):
        found.host_devices(0, nodes=1, workers=2)
    with pytest.raises(UserError, match=r"host 0 has ranks \[0, 1\], expected 0 to 3 with --workers 4"):
        found.host_devices(0, nodes=2, workers=4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", r"expected an object, got \[\]; create the file with hccl_tools.py"),
        ('{"server_list": []}', r"server_list: expected a list of length >= 1, got \[\]"),
        (
            '{"server_list": [{"device": [{"rank_id": "0"}]}]}',
            r"server_list\[0\].device\[0\]: missing required field `device_id`",
        ),
        (
            '{"server_list": [{"device": [{"rank_id": 1000000000, "device_id": 0}]}]}',
            r"server_list\[0\].device\[0\].rank_id: expected",
        ),
        ('{"server_list": [{"device": [{"rank_id": 0.5, "device_id": 0}]}]}', r"server_list\[0\].device\[0\].rank_id: expected"),
        (
            '{"server_list": [{"device": [{"rank_id": "x", "device_id": "0"}]}]}',
            r"server_list\[0\].device\[0\].rank_id: expected a text matching",
        ),
        ('{"server_list": [{"device": [{"rank_id": "0", "device_id": "0"}, {"rank_id": "0", "device_id": "1"}]}]}', "distinct"),
        ("{", "not JSON"),
    ],
)
def test_other_files_are_no_rank_tables(tmp_path, text, message):
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_rank_table(path)
