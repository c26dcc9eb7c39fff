"""Train a convolutional net to read handwritten digits.

    python examples/train_mnist.py                    # digits that tinynet draws itself: nothing to download
    python examples/train_mnist.py --data FOLDER      # the real MNIST, its four .gz files in a folder
    python examples/train_mnist.py --start RUN        # begin with the weights of a run, say on drawn digits
    python examples/train_mnist.py --resume           # go on after Ctrl-C, with the other options as before

The run folder gets the weights, the history, a checkpoint, and pictures of the mistakes and of the curves.
"""

from __future__ import annotations

import argparse
import sys

import tinynet as tn
from tinynet import cli, nn, optim, pictures, runs, training
from tinynet.data import transforms

NETS = {"small": "small_cnn", "wide": "wide_cnn"}  # functions of tinynet.models


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.options(__doc__)
    parser.add_argument("--data", default="digits", help='"digits" (drawn), "mnist", or a folder of MNIST')
    parser.add_argument(
        "--net", choices=NETS, default="small", help="how many filters: 8 and 16, or 32 and 64"
    )
    parser.add_argument("--augment", action="store_true", help="warp the training digits, for the real MNIST")
    parser.add_argument("--epochs", type=cli.count, metavar="N", default=10)
    parser.add_argument("--batch-size", type=cli.count, metavar="N", default=128)
    parser.add_argument("--lr", type=float, default=0.002, help="the highest learning rate, after warming up")
    parser.add_argument("--optimizer", default="adam", help="adam, adamw or sgd")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--seed", type=int, metavar="N", default=0, help="the same seed gives the same weights"
    )
    parser.add_argument("--samples", type=cli.count, metavar="N", help="use N digits only, to try things out")
    parser.add_argument("--start", metavar="RUN", help="a run folder whose weights are trained further")
    parser.add_argument("--out", default="runs/mnist", metavar="DIR", help="the run folder")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the run folder")
    return parser


def warm_cosine(optimizer: optim.Optimizer, steps: int) -> optim.Schedule:
    """The learning rate rises during the first tenth of all batches, then falls to 0 along half a cosine."""
    return optim.CosineLR(optimizer, steps, warmup=0.1)


def main(args: argparse.Namespace) -> int:
    """Train, evaluate, and leave a run folder; returns the exit code."""
    tn.device(args.device)  # a missing GPU is told at once
    tn.seed(args.seed)
    train = runs.open_data(args.data, "train", args.samples, args.seed)
    test = runs.open_data(args.data, "test", args.samples)
    if args.augment:
        elastic = transforms.ElasticDeformation(alpha=20, sigma=4)
        affine = transforms.RandomAffine(rotation=10, shear=0.1, scale=0.1, shift=0.5)
        train = train.with_transform(transforms.Compose([elastic, affine]), args.seed)

    model = runs.make_model(NETS[args.net]).build((28, 28, 1))
    if args.start:
        runs.start_from(args.start, model, args.out)
    model.to(args.device)
    optimizer = optim.get(args.optimizer)(model.parameters(), lr=args.lr)
    facts = {name: getattr(args, name) for name in ("data", "start", "device")}
    facts["parameters"] = model.summary().parameters
    record = runs.Recorder(args.out, NETS[args.net], facts, args.resume)
    trainer = training.Trainer(model, optimizer, nn.CrossEntropy(), ["accuracy"], callbacks=[record])
    print(f"{model.summary()}\n")
    trainer.fit(
        train,
        epochs=args.epochs,
        batch_size=args.batch_size,
        validation_data=test,
        schedule=warm_cosine,
        checkpoint=record.checkpoint,
        resume=record.resume,
        seed=args.seed,
    )

    report = runs.evaluate(model, test)
    images, labels = test[:]
    pictures.draw_mistakes(record.folder / "mistakes.png", images, labels, trainer.predict(images))
    pictures.draw_curves(record.folder / "curves.png", trainer.history)  # where matplotlib is installed
    cli.emit(args.json, record.finish(report), runs.report_text(report, record.folder))
    return 0


if __name__ == "__main__":
    sys.exit(cli.program(main, options()))
