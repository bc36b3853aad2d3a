"""Files outside docs/ that pages link to, made part of the site: links stay as a code host wants them.

Every page is known by its path in the repository. A link that leaves docs/ leads to a page of the site where it is
Markdown, and to the file itself otherwise; what those pages link to follows in the same way.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {
    "CHANGELOG.md": "changes.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Pages of the repository's root, by their names in the site."""

_LINK_OR_CODE = re.compile(
    r"^```.*?^```$|(?P<before>!?\[(?:[^\]`]|`[^`]*`)*\]\()(?P<link>[^)\s]+)\)|`[^`\n]+`", re.MULTILINE | re.DOTALL
)
"""A block of code, a link, or a span of code, whichever begins first."""


def in_site(path: str) -> str:
    """Path in the site of a file, by its path in the repository.

    >>> in_site("docs/theory.md"), in_site("CHANGELOG.md"), in_site("examples/recipe.yaml")
    ('theory.md', 'changes.md', 'examples/recipe.yaml')
    """
    return PAGES.get(path) or path.removeprefix("docs/")


def in_repository(uri: str) -> str:
    """Path in the repository of a file of the site."""
    names = {name: path for path, name in PAGES.items()}
    return names.get(uri) or (uri if (ROOT / uri).is_file() else f"docs/{uri}")


def target(page: str, link: str) -> str | None:
    """Path in the repository that a link of a page leads to; None if it leads to another host or within the page."""
    name = link.partition("#")[0]
    if not name or re.match(r"[a-z]+:", name):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), name))
    return f"{path}/README.md" if (ROOT / path).is_dir() else path


def with_site_links(page: str, text: str) -> str:
    """A page whose links are those of the site; code is left alone."""

    def changed(match: re.Match[str]) -> str:
        found = target(page, match["link"]) if match["link"] else None
        if found is None:
            return match[0]
        _, mark, heading = match["link"].partition("#")
        here = posixpath.dirname(in_site(page)) or "."
        return f"{match['before']}{posixpath.relpath(in_site(found), here)}{mark}{heading})"

    return _LINK_OR_CODE.sub(changed, text)


def linked(page: str) -> set[str]:
    """Files outside docs/ that a page links to."""
    links = [match["link"] for match in _LINK_OR_CODE.finditer((ROOT / page).read_text(encoding="utf-8"))]
    found = {target(page, link) for link in links if link}
    return {path for path in found if path and not path.startswith(("docs/", "../")) and (ROOT / path).is_file()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, and all that pages link to outside docs/."""
    unread = {f"docs/{file.src_uri}" for file in files.documentation_pages()} | set(PAGES)
    added: set[str] = set(PAGES)
    while unread:
        found = linked(unread.pop()) - added
        added |= found
        unread |= {path for path in found if path.endswith(".md")}
    for path in sorted(added):
        files.append(File.generated(config, in_site(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn a page's links into those of the site."""
    if page.file.src_uri.startswith("reference/"):
        return markdown
    return with_site_links(in_repository(page.file.src_uri), markdown)
