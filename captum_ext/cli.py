"""The command captum-ext: its options, and errors in one line."""

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
      explain a built-in road-sign scene with every method; needs no network
  captum-ext explain photo.jpg --model resnet50
      what speaks for the most probable class, and what against it
  captum-ext explain photo.jpg --model mobilenet_v2 --weights FILE.pt --target tabby
      another class, and weights from a file in place of a download
  captum-ext explain photo.jpg --model own.py:load --weights FILE.pt
      a classifier of your own: a function in a Python file that returns a ZooModel
  captum-ext refine photo.jpg --model resnet50 --prior grad-cam++
      a map made better by windows that a Gaussian process chooses
  captum-ext train --model resnet50 --encoder resnet50 --dataset folders:train -o masks
  captum-ext explain photo.jpg --model resnet50 --method masking-model \\
      --masking-network masks/network.pt
      a network that draws masks, trained once; then a map takes one forward pass
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments (sequence of str, optional): The words behind ``captum-ext``.
            Default: None (those of the command line)

    Returns:
        *int*: Exit status, 0 for success and 2 for input that cannot be used, which is
        described in one line on standard error.

    Examples::

        >>> main(["explain", "missing.jpg"])
        2
    """
    options = _parser().parse_args(arguments)
    if arguments is None:
        # Who calls this function has a process of their own.
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
        description="Explain what a vision model looks at.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (demo, explain, refine, train, evaluate, report):
        command.add_parser(commands)
    return parser
