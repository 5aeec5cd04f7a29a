"""Run the tutorials, which are scripts in cells, and make pages of them with their results."""

import contextlib
import functools
import io
import os
import pathlib
import re
import tempfile

from mkdocs.structure.files import File

# The picture of a card is this wide, in pixels.
WIDTH = 480
TABLE = re.compile(r"<!-- as a gallery -->\n((?:\|.*\n)+)")
ROW = re.compile(r"^\| (.+) \| \[(.+)\]\((tutorials/\w+)\.py\) \|$", re.M)
FOLDER = pathlib.Path(__file__).resolve().parent / "tutorials"
CELL = re.compile(r"^# %%( \[markdown\])?\n", re.M)


def on_files(files, config):
    """Each script gives a page and its pictures."""
    for path in sorted(FOLDER.glob("*.py")):
        text, pictures = page(path.stem, path.read_text(encoding="utf-8"))
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
        last = thumbnail(list(pictures.values())[-1])
        files.append(File.generated(config, f"tutorials/{path.stem}-small.png", content=last))
    return files


def on_page_markdown(markdown, page=None, **_):
    """Links to the scripts, as they are right on disk, become links to the pages.

    A table of them after the comment `<!-- as a gallery -->` becomes cards with pictures.
    """
    if page is not None and page.file.src_uri.startswith("tutorials/"):
        page.meta["hide"] = ["toc"]  # It would be empty, and the lines of code are long.
    markdown = TABLE.sub(gallery, markdown)
    return re.sub(r"\]\(((?:\.\./)?tutorials/\w+)\.py\)", r"](\1.md)", markdown)


def gallery(table):
    """Return the cards for a table with what one wants to do, and the link to a tutorial."""
    cards = [
        f"-   [![{title}]({link}-small.png)]({link}.py)\n\n"
        f"    [**{title}**]({link}.py)\n\n    {wish[0].upper()}{wish[1:]}\n"
        for wish, title, link in ROW.findall(table[1])
    ]
    return "\n".join(['<div class="grid cards" markdown>\n', *cards, "</div>\n"])


def thumbnail(picture):
    """Return a small PNG of a PNG."""
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image, io.BytesIO() as file:
        size = WIDTH, round(WIDTH * image.height / image.width)
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        small.quantize(128).save(file, "PNG", optimize=True)
        return file.getvalue()


@functools.cache
def page(name, source):
    """Return the Markdown of a script, with what it prints and draws.

    Args:
        name: Of the script, without its ending.
        source: Its text. A cell begins with `# %%` or, for text in comments, `# %% [markdown]`.

    Returns:
        `(markdown, {name of a picture: bytes})`.
    """
    parts, pictures, names = [], {}, {"__name__": "__main__"}
    with _folder():
        for first_line, is_text, cell in cells(source):
            if is_text:
                parts.append(re.sub(r"^# ?", "", cell, flags=re.M))
                continue
            printed, drawn = _run(FOLDER / f"{name}.py", first_line, cell, names)
            parts.append(f"```python\n{cell}\n```")
            if printed.strip():
                parts.append(f'```text title="prints"\n{printed.rstrip()}\n```')
            for content in drawn:
                picture = f"{name}-{len(pictures) + 1}.png"
                pictures[picture] = content
                parts.append(f"![What the code above draws]({picture})")
    script = (
        f"This page is a script in cells, which editors open as a notebook: [{name}.py]({name}.py)."
    )
    return "\n\n".join([*parts, script]), pictures


def cells(source):
    """Yield `(lines before it, whether it is text, content)` for each cell of a script."""
    marks = list(CELL.finditer(source))
    ends = [mark.start() for mark in marks[1:]] + [len(source)]
    for mark, end in zip(marks, ends):
        yield source[: mark.end()].count("\n"), bool(mark[1]), source[mark.end() : end].strip("\n")


def _run(path, first_line, cell, names):
    """Run a cell and return `(text printed, [PNG, ...])`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # Lines are counted as in the file, where AutoGraph reads the source of functions.
    code = compile("\n" * first_line + cell, str(path), "exec")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, names)
    drawn = []
    for number in plt.get_fignums():
        with io.BytesIO() as file:
            plt.figure(number).savefig(file, dpi=130, metadata={"Software": None})
            drawn.append(file.getvalue())
    plt.close("all")
    return printed.getvalue(), drawn


@contextlib.contextmanager
def _folder():
    """Work in a folder of its own, for the files that a tutorial writes."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)
