"""The commands of the offline stage: `python -m pipeline COMMAND`."""

from pipeline.cli import Command, leave, main

COMMANDS = {
    "build": Command(
        help="COCO key points and images -> a record set", config="pipeline.config:BuildConfig", run="pipeline.build:run"
    ),
    "verify": Command(
        help="re-hash, re-read and decode every row of a record set",
        config="pipeline.verify:VerifyConfig",
        run="pipeline.verify:run",
    ),
    "info": Command(help="tell what a record set is", config="pipeline.info:InfoConfig", run="pipeline.info:run"),
    "preview": Command(
        help="pictures of a record set: crop, skeleton, mask, heatmaps, PAFs",
        config="pipeline.preview:PreviewConfig",
        run="pipeline.preview:run",
    ),
    "bench-build": Command(
        help="what a sample costs: rate, parts, bytes, codec loss, and COCO 2017 from that",
        config="pipeline.bench_build:BenchBuildConfig",
        run="pipeline.bench_build:run",
    ),
    "bench-plan": Command(
        help="time and memory of planning a data set of the size of COCO",
        config="pipeline.bench_plan:BenchPlanConfig",
        run="pipeline.bench_plan:run",
    ),
    "synthesize": Command(
        help="make a COCO-format people data set from nothing",
        config="pipeline.synthesize:SynthesizeConfig",
        run="pipeline.synthesize:run",
    ),
}

if __name__ == "__main__":
    leave(main("python -m pipeline", "Precompute training samples into sharded MindRecord files.", COMMANDS))
