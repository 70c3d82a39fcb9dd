"""The commands of the training stage: `python -m trainer COMMAND`."""

from pipeline.cli import Command, leave, main

COMMANDS = {
    "train": Command(
        help="train a network on a record set, or resume an interrupted run",
        config="trainer.config:TrainConfig",
        run="trainer.loop.train:run",
    ),
    "launch": Command(
        help="train on several devices or hosts, one process per device",
        config="trainer.distributed.config:LaunchConfig",
        run="trainer.distributed.launch:run",
    ),
    "import": Command(
        help="convert published weights of other projects to a checkpoint",
        config="trainer.commands.config:ImportConfig",
        run="trainer.commands.import_weights:run",
    ),
    "info": Command(
        help="show the contents of a checkpoint",
        config="trainer.commands.info:InfoConfig",
        run="trainer.commands.info:run",
        prints=True,
    ),
    "plot": Command(
        help="plot the training curves of one or more runs",
        config="trainer.commands.plot:PlotConfig",
        run="trainer.commands.plot:run",
    ),
    "simulate": Command(
        help="show how many ranks would share a record set of COCO's size",
        config="trainer.commands.config:SimulateConfig",
        run="trainer.commands.simulate:run",
        prints=True,
    ),
    "bench-stream": Command(
        help="measure samples per second: streamed from records, and augmented on the fly",
        config="trainer.commands.config:BenchStreamConfig",
        run="trainer.commands.bench_stream:run",
        prints=True,
    ),
    "bench-step": Command(
        help="measure time and memory of a training step for any network",
        config="trainer.commands.bench_step:BenchStepConfig",
        run="trainer.commands.bench_step:run",
        prints=True,
    ),
    "check-device": Command(
        help="check a device against a CPU: operators, training, throughput, two ranks",
        config="trainer.commands.check_device_config:CheckDeviceConfig",
        run="trainer.commands.check_device:run",
        prints=True,
    ),
}

if __name__ == "__main__":
    leave(main("python -m trainer", "Train networks on record sets.", COMMANDS))
