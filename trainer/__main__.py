"""The commands of the training stage: `python -m trainer COMMAND`."""

from pipeline.cli import Command, leave, main

COMMANDS = {
    "train": Command(
        help="record set -> trained network; continues an interrupted run",
        config="trainer.config:TrainConfig",
        run="trainer.loop.train:run",
    ),
    "launch": Command(
        help="train on several devices or hosts, one process each",
        config="trainer.distributed.launch:LaunchConfig",
        run="trainer.distributed.launch:run",
    ),
    "info": Command(
        help="all that a checkpoint holds",
        config="trainer.commands.info:InfoConfig",
        run="trainer.commands.info:run",
    ),
    "plot": Command(
        help="curves of one or several runs as one picture",
        config="trainer.commands.plot:PlotConfig",
        run="trainer.commands.plot:run",
    ),
    "simulate": Command(
        help="what each of many ranks would read of a set of COCO's size",
        config="trainer.commands.simulate:SimulateConfig",
        run="trainer.commands.simulate:run",
    ),
    "bench-stream": Command(
        help="samples a second: streamed from records, and augmented on the fly",
        config="trainer.commands.bench_stream:BenchStreamConfig",
        run="trainer.commands.bench_stream:run",
    ),
    "bench-step": Command(
        help="seconds and memory of a training step, for any network",
        config="trainer.commands.bench_step:BenchStepConfig",
        run="trainer.commands.bench_step:run",
    ),
}

if __name__ == "__main__":
    leave(main("python -m trainer", "Train the network on a record set.", COMMANDS))
