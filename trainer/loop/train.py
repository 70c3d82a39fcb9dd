"""The command `train`: record set in, checkpoints and log out. Continues exactly where an earlier run stopped."""

from contextlib import nullcontext

from pipeline.cli import save_config
from pipeline.errors import stop_error
from pipeline.wording import printable
from trainer.config import TrainConfig
from trainer.data.stream import Stream
from trainer.device import choose_device
from trainer.distributed.agreement import require_agreement
from trainer.distributed.world import World, join, local_device_id
from trainer.loop.rank_facts import facts
from trainer.loop.training import Training
from trainer.run.claim import claimed, refuse_foreign
from trainer.run.curves import draw_curves, write_picture
from trainer.run.events import require_tensorboard
from trainer.run.layout import CONFIG, CURVES

ADVICE = "to continue, run the same command with --resume"


def run(config: TrainConfig) -> int:
    """Run the command `train`, alone or as one of several processes. Raises UserError for errors that the user can fix."""
    device = choose_device(config.device, unfolds=config.unfolds, device_id=local_device_id(config.device.device_id))
    world = join()
    stream = Stream(
        config.records,
        batch_size=config.batch_size * config.accumulate_steps,
        seed=config.seed,
        rank=world.rank,
        world=world.size,
        num_parallel_workers=config.num_parallel_workers,
        check_hashes=config.check_hashes,
        jitter=config.jitter,
        weights=config.chosen_weights,
    )
    if config.tensorboard:
        require_tensorboard()
    if config.dry_run:
        refuse_foreign(config.out, resume=config.resume)
        training = _prepared(config, stream, world, device)
        if world.leads:
            print("\n".join(training.plan().lines()))
        training.check_memory()
        return 0
    with claimed(config.out, resume=config.resume) if world.leads else nullcontext():
        training = _prepared(config, stream, world, device)
        training.check_memory()
        if world.leads:
            save_config(config, config.out / CONFIG)
        stopped_by = training.run()
        if world.leads and not stopped_by:
            write_picture(config.out / CURVES, lambda: draw_curves([config.out]))
    if stopped_by:
        raise stop_error(stopped_by, ADVICE)
    return 0


def _prepared(config: TrainConfig, stream: Stream, world: World, device: str) -> Training:
    """Return the run, after printing which weights it starts from. Raises UserError if the ranks do not agree about it."""
    training = Training(config, stream, world, device)
    if world.leads and training.state.notes:
        print("\n".join(map(printable, training.state.notes)), flush=True)
    if world.size > 1:
        require_agreement(world, facts(training))
    return training
