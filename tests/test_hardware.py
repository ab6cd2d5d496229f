import pytest
import torch

from yolo9k import hardware, machine
from yolo9k.errors import MachineError

CPU, MPS = torch.device("cpu"), torch.device("mps")


@pytest.mark.parametrize("requested", ["cuda:99", "99", "gpu", "", "-1"])
def test_a_device_that_is_not_here(requested):
    with pytest.raises(MachineError, match="is not available; available: cpu"):
        hardware.choose_device(requested)


def test_auto_takes_the_best_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert hardware.choose_device("auto") == CPU
    assert hardware.choose_device("cpu") == CPU


@pytest.mark.parametrize(("able", "expected"), [(True, "bf16"), (False, "float32")])
def test_precision_of_a_cpu(monkeypatch, able, expected):
    monkeypatch.setattr(hardware, "_cpu_multiplies_bf16", lambda: able)
    assert hardware.choose_precision("auto", CPU) == expected
    assert hardware.choose_precision("float32", CPU) == "float32"
    assert hardware.choose_precision("bf16", CPU) == "bf16"


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16")])
def test_precision_of_a_gpu(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert hardware.choose_precision("auto", torch.device("cuda")) == expected


def test_other_precisions():
    assert hardware.choose_precision("auto", MPS) == "float32"
    with pytest.raises(MachineError, match="fp16 needs a GPU"):
        hardware.choose_precision("fp16", CPU)


def test_memory_format():
    assert hardware.choose_memory_format("auto", CPU) == torch.channels_last
    assert hardware.choose_memory_format("auto", MPS) == torch.contiguous_format
    assert hardware.choose_memory_format(False, CPU) == torch.contiguous_format
    assert hardware.choose_memory_format(True, MPS) == torch.channels_last


def test_workers(monkeypatch):
    assert hardware.choose_workers(3) == 3
    assert hardware.choose_workers(0) == 0
    monkeypatch.setattr(hardware, "available_cores", lambda: 64)
    assert hardware.choose_workers("auto") == hardware.MAX_WORKERS
    monkeypatch.setattr(hardware, "available_cores", lambda: 2)
    assert hardware.choose_workers("auto") == 2


def test_autocast():
    a = torch.ones(2, 2)
    with hardware.autocast(CPU, "bf16"):
        assert (a @ a).dtype == torch.bfloat16
    with hardware.autocast(CPU, "float32"):
        assert (a @ a).dtype == torch.float32


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
    ],
)
def test_out_of_memory(error, expected):
    assert hardware.out_of_memory(error) == expected


def test_memory_really_runs_out():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60)
    assert hardware.out_of_memory(error.value)


def test_nobody_counts_memory_on_windows(monkeypatch):
    monkeypatch.setattr(hardware.sys, "platform", "win32")
    assert hardware.peak_memory(CPU) == (None, "")


def system(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return machine.free_memory(root)


def test_processes_share_the_cores_and_memory_of_their_machine(tmp_path, monkeypatch):
    cores = machine.available_cores()
    assert hardware.choose_workers("auto") == min(cores, hardware.MAX_WORKERS)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    free = machine.free_memory()
    monkeypatch.setattr(hardware.processes, "local_count", lambda: 4)
    assert machine.available_cores() == hardware.choose_workers("auto") == 1
    monkeypatch.setattr(hardware.processes, "local_count", lambda: 2)
    assert machine.available_cores() == 3
    if free is not None:
        assert machine.free_memory() < 0.7 * free


def test_a_process_gets_its_own_gpu(monkeypatch):
    chosen = []
    monkeypatch.setattr(hardware.processes, "local_count", lambda: 2)
    monkeypatch.setattr(hardware.processes, "local_rank", lambda: 1)
    monkeypatch.setattr(hardware.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(hardware.torch.cuda, "set_device", chosen.append)
    assert hardware._own_gpu("cuda") == hardware._own_gpu("cuda:1") == "cuda:1"
    assert chosen == [1, 1]
    with pytest.raises(MachineError, match="device 'cuda:0': 2 processes cannot share it; choose auto, cuda or cpu"):
        hardware._own_gpu("cuda:0")
    monkeypatch.setattr(hardware.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(MachineError, match="2 processes need 2 GPUs; available: cpu, cuda:0; with device cpu"):
        hardware._own_gpu("cuda")


def test_free_memory_without_limits(tmp_path):
    assert system(tmp_path, {}) is None
    assert system(tmp_path, {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 5 kB\n"}) == 5 * 1024
    assert system(tmp_path, {"proc/self/cgroup": "0::/\nnonsense\n", "sys/fs/cgroup/memory.max": "max\n"}) == 5 * 1024


def test_free_memory_in_a_container(tmp_path):
    folder = "sys/fs/cgroup/"
    files = {
        "proc/meminfo": "MemAvailable: 5000 kB\n",
        "proc/self/cgroup": "0::/\n",
        f"{folder}memory.max": "1000\n",
        f"{folder}memory.current": "700\n",
        f"{folder}memory.stat": "anon 500\ninactive_file 200\n",
    }
    assert system(tmp_path, files) == 500  # the cache is given up when memory is needed
    assert system(tmp_path, {f"{folder}memory.current": "2000\n"}) == 0


@pytest.mark.parametrize("tight", ["job_7", "job_7/step_0"])
def test_the_tightest_group_of_a_batch_system_counts(tmp_path, tight):
    memory = "sys/fs/cgroup/memory/"
    files = {
        "proc/meminfo": "MemAvailable: 5000 kB\n",
        "proc/self/cgroup": "3:cpu:/x\n4:cpuacct,memory:/job_7/step_0\n",
    }
    for group in ("", "job_7/", "job_7/step_0/"):
        files[f"{memory}{group}memory.limit_in_bytes"] = "1000" if group == f"{tight}/" else "9223372036854771712"
        files[f"{memory}{group}memory.usage_in_bytes"] = "700"
    assert system(tmp_path, files) == 300


def test_a_container_whose_group_has_the_name_outside(tmp_path):
    files = {"proc/self/cgroup": "4:memory:/docker/abc\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000"}
    assert system(tmp_path, files | {"sys/fs/cgroup/memory/memory.usage_in_bytes": "1"}) == 999
