"""The commands of the training stage: `python -m trainer COMMAND`."""

from pipeline.cli import Command, leave, main

COMMANDS = {
    "train": Command(
        help="record set -> trained network; continues an interrupted run",
        config="trainer.config:TrainConfig",
        run="trainer.train:run",
    ),
    "launch": Command(
        help="train on several devices or hosts, one process each",
        config="trainer.launch:LaunchConfig",
        run="trainer.launch:run",
    ),
    "info": Command(
        help="all that a checkpoint holds",
        config="trainer.info:InfoConfig",
        run="trainer.info:run",
    ),
    "plot": Command(
        help="curves of one or several runs as one picture",
        config="trainer.plot:PlotConfig",
        run="trainer.plot:run",
    ),
    "simulate": Command(
        help="what each of many ranks would read of a set of COCO's size",
        config="trainer.simulate:SimulateConfig",
        run="trainer.simulate:run",
    ),
    "bench-stream": Command(
        help="samples a second: streamed from records, and augmented on the fly",
        config="trainer.bench_stream:BenchStreamConfig",
        run="trainer.bench_stream:run",
    ),
    "bench-step": Command(
        help="seconds and memory of a training step, for any network",
        config="trainer.bench_step:BenchStepConfig",
        run="trainer.bench_step:run",
    ),
}

if __name__ == "__main__":
    leave(main("python -m trainer", "Train the network on a record set.", COMMANDS))
