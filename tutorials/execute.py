"""Execute the notebooks and store them with their outputs, cleaned.

    python tutorials/execute.py             all notebooks
    python tutorials/execute.py 01 06       notebooks whose names start with 01 or 06

A notebook that fails, warns or prints a path of this machine is not changed. The stored
file depends only on the notebook's source, the package and the weights of MobileNetV2:
cell ids are numbers, and metadata of the machine, the editor and the time are removed.

Notebooks on photographs read these weights from CAPTUM_EXT_DATA/models/mobilenet_v2.pt,
or from torchvision.
"""

import argparse
import base64
import os
import re
import sys
import tempfile
from io import BytesIO
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from captum_ext._files import write_file

FOLDER = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# Notebooks on photographs run on road signs where this variable is set; they may read
# weights from a file instead of downloading them.
OFFLINE, WEIGHTS = "CAPTUM_EXT_OFFLINE", "MOBILENET_V2_WEIGHTS"
SECONDS_PER_CELL = 1800
# Resolution of figures as drawn and as stored.
FIGURE_DPI, DPI = 150, 100
# Raised by GPyTorch's import under a new PyTorch; readers cannot fix it.
_FOREIGN = "ignore:`torch.jit.script` is deprecated:FutureWarning"
# An absolute path, a Windows drive, a memory address, a warning.
_NOISE = re.compile(
    r"(?<![\w.:/<])/(?:\w[\w.-]*/)+|\b[A-Z]:\\|\b0x[0-9a-f]{6,}|\w*Warning\b"
)


def notebooks(prefixes: list[str]) -> list[Path]:
    """Return the notebooks whose names start with a prefix; all without prefixes."""
    found = sorted(FOLDER.glob("*.ipynb"))
    for prefix in prefixes:
        if not any(path.name.startswith(prefix) for path in found):
            raise ValueError(
                f"notebooks must start with names such as {found[0].stem}, got "
                f"{prefix!r}."
            )
    return [path for path in found if path.name.startswith(tuple(prefixes or [""]))]


def executed(path: Path, offline: bool = False) -> NotebookNode:
    """Execute a notebook with this Python in an empty folder."""
    notebook = nbformat.read(path, as_version=4)
    environment = {**os.environ, "PYTHONWARNINGS": _FOREIGN}
    data = environment.get("CAPTUM_EXT_DATA")
    if offline:
        environment[OFFLINE] = "1"
    elif data:
        environment[WEIGHTS] = str(Path(data, "models", "mobilenet_v2.pt"))
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=SECONDS_PER_CELL,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        )
        client.execute(env=environment)
    return cleaned(notebook)


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """Remove metadata of editors and kernels, and shrink figures."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number:02}"
        cell.metadata = {}
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = {}
            data = output.get("data", {})
            if "image/png" in data:
                data["image/jpeg"] = smaller(data.pop("image/png"))
    return notebook


def smaller(png: str) -> str:
    """Convert a figure (PNG, base64) to JPEG at 100 dpi: a sixth of the bytes."""
    with Image.open(BytesIO(base64.b64decode(png))) as figure:
        size = [round(side * DPI / FIGURE_DPI) for side in figure.size]
        small = figure.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    file = BytesIO()
    small.save(file, "jpeg", quality=88, subsampling=0, optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def problems(notebook: NotebookNode) -> list[str]:
    """Return what must not be in a stored notebook, one sentence per problem."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = text_of(output)
            if output.output_type == "error" or output.get("name") == "stderr":
                found.append(f"{cell.id} has an error or a warning: {text.strip()!r}.")
            elif noise := _NOISE.search(text):
                found.append(
                    f"{cell.id} prints {noise[0]!r}, which depends on the machine."
                )
    return found


def text_of(output: NotebookNode) -> str:
    """Return the text of an output, without its images."""
    data = output.get("data", {})
    texts = [value for kind, value in data.items() if kind.startswith("text/")]
    return "\n".join([output.get("text", ""), output.get("evalue", ""), *texts])


def store(notebook: NotebookNode, path: Path) -> None:
    """Write the notebook atomically."""
    nbformat.validate(notebook)
    write_file(f"{nbformat.writes(notebook)}\n".encode(), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "prefixes", nargs="*", help="prefixes of names (default: all notebooks)"
    )
    try:
        chosen = notebooks(parser.parse_args().prefixes)
    except ValueError as error:
        parser.error(str(error))
    for path in chosen:
        notebook = executed(path)
        found = problems(notebook)
        if found:
            sys.exit("\n".join([f"{path.name} was not changed:", *found]))
        store(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
