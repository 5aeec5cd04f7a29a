"""What the pages need beyond MkDocs: raw results from logs/reference, equations as MathML.

And the link to the repository.
"""

import contextlib
import html
import pathlib
import re
import subprocess

from latex2mathml import converter
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parent.parent
MATH = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
# A function in an equation, what is before it, and the bracket after it.
FUNCTION = re.compile(
    r"(<mo[^>]*>[^<]*</mo>|<mrow>|)<mi>(sin|cos|log|exp|tanh)</mi>(?=(<mo[^>]*>&#x00028;)?)"
)


def on_config(config):
    """Link to the repository that this clone is of, if it is one on the web."""
    if not config.repo_url:
        command = ["git", "-C", str(ROOT), "config", "--get", "remote.origin.url"]
        with contextlib.suppress(OSError):
            remote = subprocess.run(command, capture_output=True, text=True).stdout.strip()
            config.repo_url, config.repo_name = repository(remote)
    return config


def repository(remote):
    """Return the address on the web and the name of a remote of git, or `None` for both.

    A name or a password in the remote has no place on the pages.
    """
    match = re.fullmatch(
        r"(?:https://|ssh://)?(?:[^@/]+@)?([\w-]+(?:\.[\w-]+)+)[:/](.+?)(?:\.git)?/?", remote
    )
    return (f"https://{match[1]}/{match[2]}", match[2]) if match else (None, None)


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
        return spaced(result)

    return MATH.sub(mathml, content)


def spaced(mathml):
    """Return MathML with the spaces and accents of TeX, which the converter leaves out."""

    def function(match):
        before, name, bracket = match.groups()
        left, right = ("0" if known else "0.17em" for known in (before, bracket))
        return f'{before}<mo lspace="{left}" rspace="{right}">{name}</mo>'

    mathml = mathml.replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")
    mathml = mathml.replace("<mi>;</mi>", "<mo>;</mo>")
    # A minus after an equals sign or a bracket belongs to what follows.
    mathml = re.sub(
        r"(<mo[^>]*>&#x000(?:3D|28);</mo>)<mo>&#x02212;", r'\1<mo form="prefix">&#x02212;', mathml
    )
    mathml = re.sub(
        r"<mover>(<mi>[^<]*</mi><mo>&#x0(?:00A8|02D9);)", r'<mover accent="true">\1', mathml
    )
    return FUNCTION.sub(function, mathml)
