"""Entry point of captum-ext: parses options and reports errors in one line."""

import argparse
import sys
from collections.abc import Sequence

from captum_ext import __version__
from captum_ext._allocator import keep_freed_memory
from captum_ext._validation import check_integer
from captum_ext.commands import demo, evaluate, explain, refine, report, train

__all__ = ["main"]

_EPILOG = """\
examples:
  captum-ext demo
      explain a built-in road-sign scene with every method
  captum-ext explain photo.jpg --model resnet50
      which parts of the image raise or lower the score of the most probable class
  captum-ext explain photo.jpg --model mobilenet_v2 --weights FILE.pt --target tabby
      another class, and weights from a file instead of a download
  captum-ext explain photo.jpg --model own.py:load --weights FILE.pt
      your own classifier: a function in a Python file that returns a ZooModel
  captum-ext refine photo.jpg --model resnet50 --prior grad-cam++
      a map refined with a Gaussian process
  captum-ext train --model resnet50 --encoder resnet50 --dataset folders:train -o masks
      a network that predicts masks for a classifier, trained once
  captum-ext explain photo.jpg --model resnet50 --method masking-model \\
      --masking-network masks/network.pt
      a map of this network, in one forward pass
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run captum-ext.

    Args:
        arguments (sequence of str, optional): Command-line arguments.
            Default: None (those of the process)

    Returns:
        *int*: Exit status: 0 for success, 2 for an invalid argument or an unusable
        file, described in one line on standard error; captum-ext evaluate documents 1.

    Examples::

        >>> main(["explain", "missing.jpg"])
        2
    """
    options = _parser().parse_args(arguments)
    if arguments is None:
        # The process belongs to the command line, not to a program that calls main.
        keep_freed_memory()
    try:
        check_integer("--seed", vars(options).get("seed", 0), 0, 2**64 - 1)
        return options.run(options) or 0
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"captum-ext: error: {message}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="captum-ext",
        description="Explain the predictions of vision models.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (demo, explain, refine, train, evaluate, report):
        command.add_parser(commands)
    return parser
