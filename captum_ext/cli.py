"""The command ``captum-ext``: overview of its commands, and errors in one line."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

from captum_ext import __version__

__all__ = ["main"]

# Modules of captum_ext.commands and their lines in the overview, which are written
# here because importing a command imports PyTorch.
_COMMANDS = {
    "demo": "explain a built-in scene with every method",
    "explain": "explain the classification of an image or a video",
    "refine": "refine a map of an image or a video",
    "train": "train a masking network for a classifier",
    "evaluate": "compare methods on a data set",
    "report": "compare the methods of an evaluation: tables, tests and a page",
}

_EPILOG = """\
examples:
  captum-ext demo
      explain a built-in road-sign scene with every method; needs no network
  captum-ext explain photo.jpg --model resnet50
      evidence for and against the most probable class
  captum-ext explain photo.jpg --model mobilenet_v2 --weights FILE.pt --target tabby
      another class, with weights from a file instead of a download
  captum-ext explain photo.jpg --model own.py:load --weights FILE.pt
      your own classifier: a function in a Python file that returns a ZooModel
  captum-ext explain photo.jpg --model timm:convnext_tiny.fb_in1k
      a classifier of timm; also of Hugging Face (hf:NAME) or an ONNX file (onnx:FILE)
  captum-ext refine photo.jpg --model resnet50 --prior grad-cam++
      another method's map, refined with windows chosen by a Gaussian process
  captum-ext train --model resnet50 --encoder resnet50 --dataset folders:train -o masks
  captum-ext explain photo.jpg --model resnet50 --method masking-model \\
      --masking-network masks/network.pt
      a masking network: trained once, it explains an image in one forward pass
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments (sequence of str, optional): Words after ``captum-ext``.
            Default: None (those of the command line)

    Returns:
        *int*: Exit status: 0 for success, 2 for unusable input, which is reported in
        one line on standard error, 130 after an interruption by Ctrl-C.

    Examples::

        >>> main(["explain", "missing.jpg"])
        2
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options = _parser(words).parse_args(words)
        # Imported once --help has been answered: the checks import PyTorch.
        from captum_ext._allocator import keep_freed_memory
        from captum_ext._validation import check_integer

        if arguments is None:
            # A caller of this function decides about the memory of its own process, and
            # how it shows warnings.
            keep_freed_memory()
            warnings.showwarning = _print_warning
        check_integer("--seed", vars(options).get("seed", 0), 0, 2**64 - 1)
        return options.run(options) or 0
    # A command whose packages come with an extra says which one is missing.
    except (ValueError, OSError, ModuleNotFoundError) as error:
        message = " ".join(str(error).split())
        print(f"captum-ext: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("captum-ext: interrupted; files that were written stay", file=sys.stderr)
        return 130


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning in one line, without the line of code that gave it."""
    print(f"captum-ext: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Parser of the command line; of the commands, only the chosen one is imported."""
    parser = argparse.ArgumentParser(
        prog="captum-ext",
        description="Explain what a vision model looks at.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # No option of captum-ext itself takes a value, so this is the command.
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, summary in _COMMANDS.items():
        if name == chosen:
            import_module(f"captum_ext.commands.{name}").add_parser(commands)
        else:
            commands.add_parser(name, help=summary)
    return parser
