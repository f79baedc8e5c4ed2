"""What Velox adds to Sphinx: a generated API reference, and pictures inside the page."""

from __future__ import annotations

import re
from pathlib import Path

from c_reference import cython_declarations, header_declarations
from c_reference import page as c_page
from docutils import nodes
from python_reference import modules
from python_reference import page as python_page
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

__all__ = ["reference_pages", "setup"]


def reference_pages(root: Path) -> dict[str, str]:
    """Make the pages of the API reference.

    Parameters
    ----------
    root : Path
        The repository; its extension modules are built in place.

    Returns
    -------
    dict of str to str
        reStructuredText by the name of the page, such as ``python/velox.core.ring``.
    """
    package = root / "velox"
    pages = {f"python/{module.name}": python_page(module) for module in modules(package)}
    for path in sorted(package.rglob("*.pxd")):
        doc, declarations = cython_declarations(path.read_text(encoding="utf-8"))
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        if declarations:
            pages[f"cython/{name}"] = c_page(name, doc, declarations, language="cython")
    for path in sorted((package / "include").rglob("*.h")):
        doc, declarations = header_declarations(path.read_text(encoding="utf-8"))
        name = str(path.relative_to(package / "include"))
        pages[f"c/{path.stem}"] = c_page(name, doc, declarations, language="c")
    return pages


def write_reference(app: Sphinx) -> None:
    """Write the pages that have changed, and remove those whose module is gone."""
    target = Path(app.srcdir) / "reference" / "api"
    pages = {target / f"{name}.rst": text for name, text in reference_pages(ROOT).items()}
    for path in target.rglob("*.rst"):
        if path not in pages:
            path.unlink()
    for path, text in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def without_outside_pages(app: Sphinx, name: str, source: list[str]) -> None:
    """Turn a link to a Markdown page outside the documentation into the page's path.

    GitHub shows such a page; the site does not have it. Links to other files become downloads.
    """
    folder = (Path(app.srcdir) / name).parent

    def plain(match: re.Match[str]) -> str:
        path = (folder / match[2]).resolve()
        if path.is_relative_to(app.srcdir):
            return match[0]
        return f"{match[1]} (`{path.relative_to(ROOT)}`)"

    source[0] = re.sub(r"(?<!!)\[([^\]]+)\]\(([^)#:]+\.md)(?:#[^)]*)?\)", plain, source[0])


class InlinePictures(SphinxPostTransform):
    """Put our pictures into the page itself, so that they follow its light or dark colours."""

    default_priority = 5
    formats = ("html",)

    def run(self, **kwargs: object) -> None:
        """Replace each image of ``pictures/`` by its text."""
        for image in list(self.document.findall(nodes.image)):
            path = Path(self.app.srcdir) / image["uri"]
            if path.suffix == ".svg" and path.parent.name == "pictures":
                text = re.sub(r"<\?xml.*?\?>\s*", "", path.read_text(encoding="utf-8"))
                figure = f'<figure class="picture">{text}</figure>'
                image.replace_self(nodes.raw("", figure, format="html"))


ROOT = Path(__file__).resolve().parents[2]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_reference)
    app.connect("source-read", without_outside_pages)
    app.add_post_transform(InlinePictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
