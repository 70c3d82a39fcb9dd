"""The commands of the evaluator: `python -m evaluator COMMAND`."""

from pipeline.cli import Command, leave, main

COMMANDS = {
    "run": Command(
        help="evaluate a checkpoint on annotated images: COCO metrics and pictures",
        config="evaluator.jobs.config:RunConfig",
        run="evaluator.jobs.run:run",
    ),
    "merge": Command(
        help="combine the outputs of `run --shard` into the result of a single run",
        config="evaluator.jobs.config:MergeConfig",
        run="evaluator.jobs.merge:run",
    ),
    "score": Command(
        help="score results files of any program in COCO's format: metrics and report",
        config="evaluator.score.config:ScoreConfig",
        run="evaluator.score.score:run",
    ),
    "watch": Command(
        help="evaluate each new checkpoint of a training run; keep a leaderboard and the best checkpoint",
        config="evaluator.jobs.config:WatchConfig",
        run="evaluator.jobs.watch:run",
    ),
    "calibrate": Command(
        help="make the scores of a checkpoint the probability that a person is right",
        config="evaluator.jobs.config:CalibrateConfig",
        run="evaluator.jobs.calibrate:run",
    ),
    "tune": Command(
        help="find the settings of the decoder for a checkpoint on annotated images",
        config="evaluator.tuning.config:TuneConfig",
        run="evaluator.tuning.tune:run",
    ),
    "oracle": Command(
        help="decode and score the targets of the ground truth: the upper bound of encoding and decoding",
        config="evaluator.ceiling.config:OracleConfig",
        run="evaluator.ceiling.oracle:run",
        prints=True,
    ),
    "stress": Command(
        help="measure how AP falls when fields are blurred, weak, noisy, wrong or missing",
        config="evaluator.ceiling.config:StressConfig",
        run="evaluator.ceiling.stress:run",
        prints=True,
    ),
    "bench-decode": Command(
        help="measure the time of the decoder on annotated people and on crowds",
        config="evaluator.ceiling.config:BenchDecodeConfig",
        run="evaluator.ceiling.bench_decode:run",
        prints=True,
    ),
    "predict": Command(
        help="find people in images and videos: drawings and JSON",
        config="evaluator.predict.config:PredictConfig",
        run="evaluator.predict.predict:run",
    ),
    "bench-predict": Command(
        help="measure the time of prediction with MindSpore and with ONNX Runtime",
        config="evaluator.predict.config:BenchPredictConfig",
        run="evaluator.predict.bench_predict:run",
        prints=True,
    ),
    "live": Command(
        help="show the people in front of a camera, or in a stream or video, on a local web page",
        config="evaluator.live.config:LiveConfig",
        run="evaluator.live.live:run",
    ),
    "report": Command(
        help="write an HTML page about evaluations: curves, joints, error analysis, images",
        config="evaluator.report.config:ReportConfig",
        run="evaluator.report.report:run",
    ),
    "export": Command(
        help="export the network of a checkpoint to MINDIR or ONNX",
        config="evaluator.export.config:ExportConfig",
        run="evaluator.export.export:run",
    ),
    "publish": Command(
        help="write a folder to pass a network on: weights, ONNX, MINDIR, figures, model card",
        config="evaluator.publish.config:PublishConfig",
        run="evaluator.publish.publish:run",
    ),
}

if __name__ == "__main__":
    leave(main("python -m evaluator", "Find people in images, and evaluate the predictions.", COMMANDS))
