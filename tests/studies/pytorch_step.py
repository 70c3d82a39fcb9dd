"""How long does a training step of OpenPose take on a CPU, here and in PyTorch? Both in one run, in turns.

    python -m venv torch && torch/bin/pip install torch numpy
    python tests/studies/pytorch_step.py --pytorch torch/bin/python

The step is the same: the network of Cao et al. (CVPR 2017) with its 52,311,446 parameters, random images of 368 x 368 px, the masked
squared error of all stages, and Adam, in float32. PyTorch runs eagerly, with contiguous and with channels-last tensors; the faster
of the two counts. PyTorch is not a dependency of this project, so it has an environment of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

NUM_PARAMETERS = 52_311_446
LAYOUTS = ("contiguous", "channels_last")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pytorch", type=Path, required=True, help="Python interpreter of an environment with PyTorch")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, in turns")
    parser.add_argument("--num-steps", type=int, default=5, help="timed steps of a measurement, after two others")
    parser.add_argument("--measure-pytorch", choices=LAYOUTS, help=argparse.SUPPRESS)  # in the interpreter --pytorch
    options = parser.parse_args()
    if options.measure_pytorch:
        print(json.dumps(measure_pytorch(options.num_steps, options.measure_pytorch)))
        return
    here = [sys.executable, "-m", "trainer", "bench-step", "--preset", "openpose", "--batch-size", "1", "--only", "step"]
    there = [str(options.pytorch), __file__, "--pytorch", str(options.pytorch), "--measure-pytorch"]
    commands = {"MindSpore": here, **{f"PyTorch, {layout}": [*there, layout] for layout in LAYOUTS}}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    print("seconds per step (median of a measurement) and CPU seconds", flush=True)
    for _ in range(options.rounds):
        for name, command in commands.items():
            result = measured([*command, "--num-steps", str(options.num_steps)])
            if result["parameters"] != NUM_PARAMETERS:
                sys.exit(f"{name}: {result['parameters']:,} parameters, expected {NUM_PARAMETERS:,}: not the same network")
            seconds[name].append(result["seconds"])
            print(f"{name:24}{result['seconds']:8.2f}{result['cpu_s']:8.2f}", flush=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ours, theirs = medians.pop("MindSpore"), min(medians.values())
    print(f"MindSpore {ours:.2f} s, PyTorch {theirs:.2f} s, ratio {ours / theirs:.2f}")


def measured(command: list[str]) -> dict:
    """Run a measurement and return the JSON object of its last line."""
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}")
    return json.loads(process.stdout.splitlines()[-1])


def measure_pytorch(num_steps: int, layout: str) -> dict:
    """Time the step in PyTorch in this process."""
    import torch
    from torch import nn

    def chain(before: int, *widths: tuple[int, int], ends_linear: bool = False) -> nn.Sequential:
        layers: list[nn.Module] = []
        for after, size in widths:
            layers += [nn.Conv2d(before, after, size, padding=size // 2), nn.ReLU(inplace=True)]
            before = after
        return nn.Sequential(*(layers[:-1] if ends_linear else layers))

    class OpenPose(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            pool = nn.MaxPool2d(2)
            self.features = nn.Sequential(
                chain(3, (64, 3), (64, 3)), pool, chain(64, (128, 3), (128, 3)), pool,
                chain(128, *[(256, 3)] * 4), pool, chain(256, (512, 3), (512, 3), (256, 3), (128, 3)),
            )  # fmt: skip
            first, later = [(128, 3)] * 3 + [(512, 1)], [(128, 7)] * 5 + [(128, 1)]
            self.stages = nn.ModuleList(
                nn.ModuleList(chain(128 + (57 if stage else 0), *(later if stage else first), (count, 1), ends_linear=True)
                              for count in (19, 38))
                for stage in range(6)
            )  # fmt: skip

        def forward(self, images: torch.Tensor) -> list[list[torch.Tensor]]:
            x = features = self.features(images)
            outputs = []
            for stage in self.stages:
                outputs.append([branch(x) for branch in stage])
                x = torch.cat([features, *outputs[-1]], 1)
            return outputs

    memory_format = getattr(torch, f"{layout}_format" if layout == "contiguous" else layout)
    torch.manual_seed(0)
    network = OpenPose().to(memory_format=memory_format)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-6)
    images = torch.randn(1, 3, 368, 368).contiguous(memory_format=memory_format)
    fields, mask = [torch.rand(1, count, 46, 46) for count in (19, 38)], torch.ones(1, 1, 46, 46)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = sum((((y - t) ** 2) * mask).mean() for pair in network(images) for y, t in zip(pair, fields, strict=True))
        loss.backward()
        optimizer.step()
        return loss.item()

    step(), step()
    seconds, cpu_s = [], time.process_time()
    for _ in range(num_steps):
        started_s = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started_s)
    return {
        "seconds": statistics.median(seconds),
        "cpu_s": (time.process_time() - cpu_s) / num_steps,
        "parameters": sum(p.numel() for p in network.parameters()),
    }


if __name__ == "__main__":
    main()
