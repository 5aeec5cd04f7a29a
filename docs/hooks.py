"""What the pages need beyond MkDocs: raw results from logs/reference, equations as MathML."""

import html
import pathlib
import re

from latex2mathml import converter
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parent.parent
RAW = ("logs/reference", "benchmarks", "configs")  # What pages link to, outside of docs/.
MATH = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files, config):
    """The results and scripts that pages show or link to are served from where they stand."""
    for folder in RAW:
        for path in sorted((ROOT / folder).rglob("*.*")):
            if "__pycache__" not in path.parts:
                # A name that is no page's, so that tables stay what they are.
                name = str(path.relative_to(ROOT)).replace(".md", ".md.txt")
                files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, **_):
    """Links out of docs/, as they are right on disk, become links into the site."""
    markdown = re.sub(r"\]\(\.\./(logs/reference/[^)]*\.md)\)", r"](\1.txt)", markdown)
    return re.sub(rf"\]\(\.\./({'|'.join(RAW)})/", r"](\1/", markdown)


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
