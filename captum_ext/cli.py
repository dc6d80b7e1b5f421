"""The command ``captum-ext``: overview of its commands, and errors in one line."""

import argparse
import io
import sys
import warnings
from collections.abc import Collection, Sequence
from importlib import import_module
from typing import Any, NoReturn

from captum_ext import __version__
from captum_ext._suggestions import did_you_mean, known_name

__all__ = ["main"]

# Modules of captum_ext.commands and their lines in the overview, which are written
# here because importing a command imports PyTorch.
_COMMANDS = {
    "demo": "explain a built-in scene with every method",
    "explain": "explain the classification of images or a video",
    "refine": "refine a map of an image or a video",
    "train": "train a masking network for a classifier",
    "evaluate": "compare methods on a data set",
    "report": "compare the methods of an evaluation: tables, tests and a page",
    "models": "list classifiers by where they come from",
    "methods": "list attribution methods and their arguments",
    "metrics": "list metrics and their arguments",
}
_LISTS = ("models", "methods", "metrics")

# Names in errors of the library that differ from those of options.
_OPTION_OF = {"name": "model", "methods": "method", "path": "output", "names": "colors"}

_NUMBERS: dict[Any, str] = {int: "an integer", float: "a number"}

_EPILOG = """\
examples:
  captum-ext demo
      explain a built-in road-sign scene with every method; needs no network
  captum-ext explain photo.jpg --model resnet50
      evidence for and against the most probable class
  captum-ext explain photos --model resnet50 --method pn-rise,cameras -o figures
      all images of a folder, with two methods side by side
  captum-ext explain photo.jpg --model resnet50 --target top1 --against top2
      why the most probable class and not the second
  captum-ext explain photo.jpg --model mobilenet_v2 --weights FILE.pt --target tabby
      another class, with weights from a file instead of a download
  captum-ext explain photo.jpg --model own.py:load --weights FILE.pt
      your own classifier: a function in a Python file that returns a ZooModel
  captum-ext explain photo.jpg --model timm:convnext_tiny.fb_in1k
      a classifier of timm; also of Hugging Face (hf:NAME) or an ONNX file (onnx:FILE)
  captum-ext refine photo.jpg --model resnet50 --prior grad-cam++
      another method's map, refined with a Gaussian process
  captum-ext train --model resnet50 --encoder resnet50 --dataset folders:train -o masks
  captum-ext explain photo.jpg --model resnet50 --method masking-model \\
      --masking-network masks/network.pt
      a masking network: trained once, it explains an image in one forward pass
  captum-ext evaluate --dataset images:photos --model resnet50 -o results
  captum-ext report results
      which method is best for this model, on all images of a folder

captum-ext COMMAND --help describes the options of a command.
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
    known: Collection[str] = ()
    if arguments is None:
        sys.stdout, sys.stderr = _output(sys.stdout), _output(sys.stderr)
    try:
        parser, known = _parser(words)
        options = parser.parse_args(words)
        # Imported once --help has been answered: the checks import PyTorch.
        from captum_ext._allocator import keep_freed_memory
        from captum_ext._validation import check_integer

        if arguments is None:
            # A caller of this function decides about the memory of its own process, and
            # how it shows warnings.
            keep_freed_memory()
            warnings.showwarning = _print_warning
        check_integer("--seed", vars(options).get("seed", 0), 0, 2**64 - 1)
        status = options.run(options) or 0
        print(end="", flush=True)
        return status
    # A command whose packages come with an extra says which one is missing.
    except (ValueError, OSError, ModuleNotFoundError) as error:
        message = _naming_option(" ".join(str(error).split()), known)
        print(f"captum-ext: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("captum-ext: interrupted; files that were written stay", file=sys.stderr)
        return 130


class _Output(io.FileIO):
    """File that accepts lines which nobody reads, and fails once if it cannot write."""

    failed = False

    def write(self, content: Any) -> int:
        if not self.failed:
            try:
                return super().write(content)
            except OSError as error:
                self.failed = True
                if not isinstance(error, BrokenPipeError):
                    raise
        return memoryview(content).nbytes


def _output(stream: Any) -> Any:
    """A standard stream that goes nowhere once its reader, such as ``head``, ends.

    What a command writes to files does not depend on who reads its lines.
    """
    if not isinstance(stream, io.TextIOWrapper) or stream.isatty():
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False)),
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _naming_option(message: str, options: Collection[str]) -> str:
    """An error with the option of the command line instead of the argument's name."""
    first, space, rest = message.partition(" ")
    for name in (first, _OPTION_OF.get(first, first)):
        option = f"--{name.replace('_', '-')}"
        if option in options:
            return f"{option}{space}{rest}"
    return message


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning in one line, without the line of code that gave it."""
    print(f"captum-ext: warning: {' '.join(str(message).split())}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """Parser whose errors are one line, with a suggestion for a misspelled option."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help.")

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse ignores that help or version cannot be written.
        print(message, end="", file=file, flush=True)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [*map(str, action.choices)]
            raise ValueError(
                f"{'/'.join(action.option_strings)} must be one of "
                f"{', '.join(choices)}, got {value!r}{did_you_mean(value, choices)}."
            )

    def _get_values(self, action: argparse.Action, words: list[str]) -> Any:
        try:
            return super()._get_values(action, words)
        except argparse.ArgumentError:
            if action.type not in _NUMBERS:
                raise
            raise ValueError(
                f"{action.option_strings[-1]} must be {_NUMBERS[action.type]}, got "
                f"{words[0]!r}."
            ) from None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        # The parser of the command comes first and knows its options.
        for word in unknown:
            if word.startswith("-"):
                option = word.partition("=")[0]
                hint = did_you_mean(option, self._option_string_actions)
                self.error(f"unknown option {option}{hint}")
        return found, unknown


def _parser(words: Sequence[str]) -> tuple[argparse.ArgumentParser, Collection[str]]:
    """Parser, and options of the chosen command, the only one that is imported."""
    parser = _Parser(
        prog="captum-ext",
        description="Explain what a vision model looks at.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # No option of captum-ext itself takes a value, so this is the command.
    chosen = next((word for word in words if not word.startswith("-")), None)
    if chosen is not None and chosen not in _COMMANDS:
        raise ValueError(
            f"command must be {known_name(chosen, _COMMANDS)}; see captum-ext --help."
        )
    for name, summary in _COMMANDS.items():
        if name != chosen:
            commands.add_parser(name, help=summary)
        elif name in _LISTS:
            import_module("captum_ext.commands.listing").add_parser(commands, name)
        else:
            import_module(f"captum_ext.commands.{name}").add_parser(commands)
    options = commands.choices[chosen]._option_string_actions if chosen else ()
    return parser, options
