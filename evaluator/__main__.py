"""The commands of the evaluator: `python -m evaluator COMMAND`."""

from pipeline.cli import Command, leave, main

COMMANDS = {
    "run": Command(
        help="a checkpoint on annotated images -> COCO figures, pictures",
        config="evaluator.jobs.config:RunConfig",
        run="evaluator.jobs.run:run",
    ),
    "merge": Command(
        help="the parts that `run --shard` wrote -> exactly the result of the whole",
        config="evaluator.jobs.merge:MergeConfig",
        run="evaluator.jobs.merge:run",
    ),
    "watch": Command(
        help="each new checkpoint of a running training -> a leaderboard and the best checkpoint",
        config="evaluator.jobs.config:WatchConfig",
        run="evaluator.jobs.watch:run",
    ),
    "oracle": Command(
        help="targets of the true keypoints, decoded and scored: the ceiling",
        config="evaluator.jobs.config:OracleConfig",
        run="evaluator.ceiling.oracle:run",
    ),
    "stress": Command(
        help="how the decoder's score falls when fields are blurred, weak, noisy, false, missing",
        config="evaluator.ceiling.stress:StressConfig",
        run="evaluator.ceiling.stress:run",
    ),
    "bench-decode": Command(
        help="milliseconds of the decoder, on real poses and in crowds",
        config="evaluator.ceiling.bench_decode:BenchDecodeConfig",
        run="evaluator.ceiling.bench_decode:run",
    ),
    "predict": Command(
        help="a checkpoint on any images and videos -> drawings and JSON",
        config="evaluator.jobs.config:PredictConfig",
        run="evaluator.predict.predict:run",
    ),
    "report": Command(
        help="evaluations as one HTML page: curves, joints, errors and what mending them gives, images",
        config="evaluator.report.report:ReportConfig",
        run="evaluator.report.report:run",
    ),
    "export": Command(
        help="a checkpoint's network as MINDIR, ONNX or AIR, for other engines",
        config="evaluator.export.export:ExportConfig",
        run="evaluator.export.export:run",
    ),
}

if __name__ == "__main__":
    leave(main("python -m evaluator", "Find people, and score what was found.", COMMANDS))
