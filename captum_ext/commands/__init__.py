"""The commands of captum-ext, one a file: what is asked, and what is written."""

__all__: list[str] = []
