"""What the pages need beyond MkDocs: raw results from logs/reference, equations as MathML."""

import html
import pathlib
import re

from latex2mathml import converter
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parent.parent
MATH = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files, config):
    """The figures and tables that pages show or link to are served from where they stand."""
    for path in sorted((ROOT / "logs" / "reference").rglob("*.*")):
        name = str(path.relative_to(ROOT))
        # No page, so that tables stay what they are.
        name += ".txt" if path.suffix == ".md" else ""
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, **_):
    """Links to them, as they are right on disk, become links into the site."""
    markdown = re.sub(r"(\]\(\.\./logs/reference/[^)]*\.md)\)", r"\1.txt)", markdown)
    return markdown.replace("](../logs/reference/", "](logs/reference/")


def on_page_content(content, page, **_):
    """Equations become MathML, which browsers draw by themselves."""

    def mathml(match):
        source = html.unescape(match[2])
        display = "block" if match[1] == "div" else "inline"
        result = converter.convert(source, display=display)
        if re.search(r"\\|<mi>&</mi>", result):
            raise PluginError(f"{page.file.src_path}: no MathML for {source}")
        return result

    return MATH.sub(mathml, content)
