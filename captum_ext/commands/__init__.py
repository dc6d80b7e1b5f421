"""Commands of captum-ext, one file per command."""

__all__: list[str] = []
