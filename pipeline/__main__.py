"""The commands of the offline stage: `python -m pipeline COMMAND`."""

from typing import TYPE_CHECKING

from pipeline.cli import Command, leave, main

if TYPE_CHECKING:
    from pipeline.build.config import BuildConfig

COMMANDS = {
    "build": Command(
        help="COCO keypoints and images -> a record set",
        config="pipeline.build.config:BuildConfig",
        run="pipeline.__main__:build",
    ),
    "verify": Command(
        help="re-hash, re-read and decode every row of a record set",
        config="pipeline.records.verify:VerifyConfig",
        run="pipeline.records.verify:run",
    ),
    "info": Command(
        help="tell what a record set is", config="pipeline.commands.info:InfoConfig", run="pipeline.commands.info:run"
    ),
    "preview": Command(
        help="pictures of a record set: crop, skeleton, mask, heatmaps, PAFs",
        config="pipeline.commands.preview:PreviewConfig",
        run="pipeline.commands.preview:run",
    ),
    "bench-build": Command(
        help="what a sample costs: rate, parts, bytes, codec loss, and COCO 2017 from that",
        config="pipeline.commands.bench_build:BenchBuildConfig",
        run="pipeline.commands.bench_build:run",
    ),
    "bench-plan": Command(
        help="time and memory of planning a data set of the size of COCO",
        config="pipeline.commands.bench_plan:BenchPlanConfig",
        run="pipeline.commands.bench_plan:run",
    ),
    "synthesize": Command(
        help="make a COCO-format people data set from nothing",
        config="pipeline.synthetic.synthesize:SynthesizeConfig",
        run="pipeline.synthetic.synthesize:run",
    ),
}


def build(config: "BuildConfig") -> int:
    """`build`, with the data card. This entry point composes the two, so that `pipeline.build` need not know `data_cards`."""
    from data_cards.card import write_card
    from pipeline.build.build import run

    return run(config, write_card)


if __name__ == "__main__":
    leave(main("python -m pipeline", "Precompute training samples into sharded MindRecord files.", COMMANDS))
