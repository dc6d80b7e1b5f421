"""Build with setup.cfg; the package index needs absolute links in the README.

CAPTUM_EXT_REPOSITORY=https://github.com/OWNER/captum_ext python -m build
"""

import os
import re
from pathlib import Path

from setuptools import setup


def absolute_links(text: str, repository: str) -> str:
    """Turn relative links of a page into links to the files of a GitHub repository."""
    address = repository.rstrip("/")
    text = re.sub(r"(!\[[^\]]*\]\()(?!\w+:|#)", rf"\1{address}/raw/main/", text)
    return re.sub(r"(?<!!)(\[[^\]!]*\]\()(?!\w+:|#)", rf"\1{address}/blob/main/", text)


if __name__ == "__main__":
    readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    repository = os.environ.get("CAPTUM_EXT_REPOSITORY")
    setup(
        long_description=absolute_links(readme, repository) if repository else readme,
    )
