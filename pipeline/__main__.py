"""The commands of the offline stage: `python -m pipeline COMMAND`."""

from typing import TYPE_CHECKING

from pipeline.cli import Command, leave, main

if TYPE_CHECKING:
    from pipeline.build.config import BuildConfig

COMMANDS = {
    "build": Command(
        help="make a record set from COCO keypoints and images",
        config="pipeline.build.config:BuildConfig",
        run="pipeline.__main__:build",
    ),
    "convert": Command(
        help="convert MPII, CrowdPose, labelme and other annotations to COCO keypoints",
        config="pipeline.datasets.formats.config:ConvertConfig",
        run="pipeline.datasets.formats.convert:run",
    ),
    "verify": Command(
        help="hash every file and decode every row of a record set",
        config="pipeline.records.config:VerifyConfig",
        run="pipeline.records.verify:run",
        prints=True,
    ),
    "info": Command(
        help="summarize a record set",
        config="pipeline.commands.config:InfoConfig",
        run="pipeline.commands.info:run",
        prints=True,
    ),
    "preview": Command(
        help="draw samples: crop, skeletons, ignore mask, heatmaps, PAFs",
        config="pipeline.commands.config:PreviewConfig",
        run="pipeline.commands.preview:run",
    ),
    "bench-build": Command(
        help="measure what a sample costs and project it to COCO 2017",
        config="pipeline.commands.config:BenchBuildConfig",
        run="pipeline.commands.bench_build:run",
        prints=True,
    ),
    "bench-plan": Command(
        help="measure the time and memory that planning a build of COCO's size takes",
        config="pipeline.commands.config:BenchPlanConfig",
        run="pipeline.commands.bench_plan:run",
        prints=True,
    ),
    "synthesize": Command(
        help="generate a COCO-format data set of drawn people",
        config="pipeline.synthetic.config:SynthesizeConfig",
        run="pipeline.synthetic.synthesize:run",
    ),
}


def build(config: "BuildConfig") -> int:
    """Run `build` and write the data card. Composed here so that `pipeline.build` does not import `data_cards`."""
    from data_cards.record_cards.card import write_card
    from pipeline.build.build import run

    return run(config, write_card)


if __name__ == "__main__":
    leave(main("python -m pipeline", "Precompute training samples into sharded MindRecord files.", COMMANDS))
