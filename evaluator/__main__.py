"""The commands of the evaluator: `python -m evaluator COMMAND`."""

import sys

from pipeline.cli import Command, main

COMMANDS = {
    "run": Command(
        help="a checkpoint on annotated images -> COCO figures, pictures",
        config="evaluator.config:RunConfig",
        run="evaluator.run:run",
    ),
    "oracle": Command(
        help="targets of the true key points, decoded and scored: the ceiling",
        config="evaluator.config:OracleConfig",
        run="evaluator.oracle:run",
    ),
    "predict": Command(
        help="a checkpoint on any images -> drawings and JSON",
        config="evaluator.config:PredictConfig",
        run="evaluator.predict:run",
    ),
}

if __name__ == "__main__":
    sys.exit(main("python -m evaluator", "Find people, and score what was found.", COMMANDS))
