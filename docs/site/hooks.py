"""What the site has beside the pages of docs/: the README as its first page, and the repository's files that pages speak
of, notebooks and source among them, so that every link leads somewhere without a network."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[2]
# where files of the repository are put in the site
PLACE = "repository"
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
PICTURES = {".png", ".svg"}
LANGUAGES = {".rs": "rust", ".sh": "bash", ".py": "python", ".toml": "toml", ".json": "json", ".jsonl": "json"}
# a page that a reader's browser asks somebody else for breaks the promise that the site needs no network
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)[^>]*\ssrc=[\"']?(?:https?:)?//[^\"'\s>]+"
    r"|<link[^>]*rel=[\"']?(?:stylesheet|preload|preconnect|icon)[^>]*href=[\"']?(?:https?:)?//[^\"'\s>]+"
)

# of pages that this file adds: their place in the repository, by their place in the site
origins: dict[str, str] = {}


def links(text: str, origin: str) -> set[str]:
    """The repository's files that a page links to, by their places in the repository."""
    found = set()
    for _, target, _, _ in LINK.findall(text):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        if "://" not in target and not path.startswith("..") and (ROOT / path).exists():
            found.add(path)
    return found


def place(path: str) -> str:
    """Where a file of the repository stands in the site."""
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    file = ROOT / path
    if file.is_dir():
        return f"{PLACE}/{path}/index.md"
    if file.suffix in PICTURES:
        return f"{PLACE}/{path}"
    return f"{PLACE}/{path.removesuffix('.md').removesuffix('.ipynb')}.md"


def as_page(path: str) -> str:
    """A file of the repository as Markdown."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(entry.name for entry in file.iterdir() if entry.is_file() and readable(entry))
        return "\n".join([f"# {path}", "", *(f"- [{name}]({name})" for name in names)])
    if file.suffix == ".md":
        return file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        notebook = nbformat.read(file, as_version=4)
        notebook.metadata.setdefault("language_info", {})["name"] = "python"
        return str(MarkdownExporter().from_notebook_node(notebook)[0])
    text = file.read_text(encoding="utf-8")
    return f"# {path}\n\n````{LANGUAGES.get(file.suffix, 'text')}\n{text.rstrip()}\n````\n"


def readable(file: Path) -> bool:
    """Whether a file is text, short enough to be looked at."""
    try:
        return file.stat().st_size < 200_000 and bool(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return False


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the README and, from page to page, what is linked to."""
    origins.clear()
    waiting = ["README.md"]
    for file in files.documentation_pages():
        origins[file.src_uri] = f"docs/{file.src_uri}"
        waiting += links(file.content_string, f"docs/{file.src_uri}")
    while waiting:
        path = waiting.pop()
        at = place(path)
        if at in origins or files.get_file_from_path(at) is not None:
            continue
        origins[at] = path
        if at.endswith(".md"):
            if (ROOT / path).is_dir():
                # links in it are to its own files
                origins[at] = f"{path}/index.md"
            text = as_page(path)
            files.append(File.generated(config, at, content=text))
            waiting += links(text, origins[at])
        else:
            files.append(File.generated(config, at, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links between places in the repository into links between places in the site."""
    here = page.file.src_uri
    origin = origins[here]
    if here.startswith(f"{PLACE}/") and not origin.endswith((".md", ".ipynb")):
        # who searches looks for what is written about it
        page.meta["search"] = {"exclude": True}

    def turned(found: re.Match[str]) -> str:
        before, target, anchor, after = found.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        if path in links(found.group(0), origin):
            target = posixpath.relpath(place(path), posixpath.dirname(here) or ".")
        return f"{before}{target}{anchor or ''}{after}"

    return LINK.sub(turned, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuses a page that fetches something from elsewhere."""
    found = FETCHED.search(output)
    if found:
        raise PluginError(f"{page.file.src_uri} would fetch from elsewhere: {found.group(0)}")
    return output
