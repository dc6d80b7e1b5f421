"""Commands of captum-ext, one module per command."""

__all__: list[str] = []
