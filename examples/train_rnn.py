"""Train a recurrent net to read digits the way one reads a page: row by row, from top to bottom.

    python examples/train_rnn.py

At each of the 28 rows a SimpleRNN sees 28 pixels and what it remembers of the rows above; the memory after
the last row decides. A gradient that comes back through 28 steps can explode, so the norm of all is clipped.
"""

from __future__ import annotations

import argparse
import sys

import tinynet as tn
from tinynet import cli, models, nn, optim, runs, training


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.options(__doc__)
    parser.add_argument("--data", default="digits", help='"digits" (drawn), "mnist", or a folder of MNIST')
    parser.add_argument("--epochs", type=cli.count, metavar="N", default=10)
    parser.add_argument(
        "--seed", type=int, metavar="N", default=0, help="the same seed gives the same weights"
    )
    parser.add_argument("--samples", type=cli.count, metavar="N", help="use N digits only, to try things out")
    parser.add_argument("--out", default="runs/rnn", metavar="DIR", help="the run folder")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the run folder")
    return parser


def main(args: argparse.Namespace) -> int:
    """Train, evaluate, and leave a run folder; returns the exit code."""
    tn.seed(args.seed)
    train = runs.open_data(args.data, "train", args.samples, args.seed)
    test = runs.open_data(args.data, "test", args.samples)

    model = models.row_rnn().build((28, 28, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.001)
    facts = {"data": args.data, "device": "cpu", "parameters": model.summary().parameters}
    record = runs.Recorder(args.out, "row_rnn", facts, args.resume)
    trainer = training.Trainer(model, optimizer, nn.CrossEntropy(), ["accuracy"], [record], clip_norm=1.0)
    print(f"{model.summary()}\n")
    trainer.fit(
        train,
        epochs=args.epochs,
        batch_size=128,
        validation_data=test,
        schedule=optim.CosineLR,
        checkpoint=record.checkpoint,
        resume=record.resume,
        seed=args.seed,
    )
    report = runs.evaluate(model, test)
    cli.emit(args.json, record.finish(report), runs.report_text(report, record.folder))
    return 0


if __name__ == "__main__":
    sys.exit(cli.program(main, options()))
