"""Docstrings of the source as Markdown: examples and tables become blocks, ``::`` announces code."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?! *$).+)*", re.MULTILINE)
_TABLE = re.compile(
    r"^(?P<indent> *)=+(?: +=+)+ *\n(?:.*\n)+?\1=+(?: +=+)+ *\n(?:.*\n)+?\1=+(?: +=+)+ *$", re.MULTILINE
)


def as_markdown(text: str) -> str:
    r"""A docstring whose examples and tables (of reStructuredText) are blocks of code.

    >>> print(as_markdown("Sum::\n\n>>> 1 + 1\n2\n\nEnd."))
    Sum:
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    <BLANKLINE>
    End.
    """
    text = re.sub(r"(?<=[\w)])::$", ":", text, flags=re.MULTILINE)
    text = _EXAMPLE.sub(lambda match: _block("pycon", match), text)
    return _TABLE.sub(lambda match: _block("text", match), text)


def _block(language: str, match: re.Match[str]) -> str:
    indent = match["indent"]
    return f"{indent}```{language}\n{match[0]}\n{indent}```"


class MarkdownDocstrings(griffe.Extension):
    """Change docstrings as they are read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
