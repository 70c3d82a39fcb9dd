"""What remains of a run, and the assembly of its `Plan`."""

from trainer.config import TrainConfig
from trainer.data.stream import Stream
from trainer.device import num_cores
from trainer.distributed.world import World
from trainer.loop import memory
from trainer.loop.optimizer import break_points, learning_rates
from trainer.loop.state import Progress, State
from trainer.loop.step import scaler_state
from trainer.networks.config import RUNNING_AVERAGES
from trainer.networks.network import count_parameters
from trainer.run import plan
from trainer.run.plan import Plan


def steps_left(progress: Progress, config: TrainConfig, stream: Stream) -> int:
    """Return the number of steps until max_epoch or max_steps, whichever comes first."""
    left = _steps_to_max_epoch(progress, config, stream)
    if config.max_steps is not None:
        left = min(left, config.max_steps - progress.step)
    return max(left, 0)


def ended_by(progress: Progress, config: TrainConfig, stream: Stream) -> str:
    """Return the option that ends the run, with its value: "--max-epoch 60" or "--max-steps 12000"."""
    if config.max_steps is not None and config.max_steps - progress.step < _steps_to_max_epoch(progress, config, stream):
        return f"--max-steps {config.max_steps}"
    return f"--max-epoch {config.max_epoch}"


def _steps_to_max_epoch(progress: Progress, config: TrainConfig, stream: Stream) -> int:
    in_epoch = -(-(stream.num_samples - progress.position) // (stream.batch_size * stream.world))
    return in_epoch + (config.max_epoch - progress.epoch - 1) * stream.steps_per_epoch


def memory_sizes(config: TrainConfig, stream: Stream) -> dict[str, int]:
    """Return what `memory.estimate_bytes` needs besides the network."""
    return {
        "insize": stream.format.targets.insize,
        "batch_size": config.batch_size,
        "accumulate_steps": config.accumulate_steps,
        "num_threads": num_cores(),
    }


def make_plan(config: TrainConfig, state: State, stream: Stream, world: World, *, device: str, total_steps: int) -> Plan:
    """Return the plan of a run. Reads the run folder and changes nothing."""
    progress, optimizer, network = state.progress, state.optimizer, state.network
    groups = (network.parameters_dict(), optimizer.state(), optimizer.averages(), scaler_state(state.scaler))
    rates = tuple(
        (
            step,
            learning_rates(step, config.optim, total_steps=total_steps, num_processes=world.size, frozen=config.frozen_groups),
        )
        for step in break_points(config.optim, total_steps)
    )
    return Plan(
        num_samples=stream.num_samples,
        num_variants=stream.manifest.num_variants,
        insize=stream.format.targets.insize,
        batch_size=stream.batch_size,
        num_ranks=world.size,
        steps_per_epoch=stream.steps_per_epoch,
        steps_done=progress.step,
        steps_left=total_steps - progress.step,
        ended_by=ended_by(progress, config, stream),
        rates=rates,
        schedule=config.optim.lr_schedule,
        parameters=count_parameters(network),
        num_frozen=sum(p.size for p in network.get_parameters() if not p.requires_grad and not p.name.endswith(RUNNING_AVERAGES)),
        memory_bytes=memory.estimate_bytes(network, **memory_sizes(config, stream)) if device == "CPU" else None,
        available_bytes=memory.available_bytes(),
        checkpoint_bytes=sum(p.nbytes for group in groups for p in group.values()),
        keep_checkpoint_max=config.keep_checkpoint_max,
        kept_bytes=plan.kept_bytes(config.out),
        free_bytes=plan.free_bytes(config.out),
        imgs_per_sec=plan.past_speed(config.out) if progress.step else None,
    )
