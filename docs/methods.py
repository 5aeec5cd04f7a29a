"""Write the table of the methods from their tableaux, so that none can be missing."""

MARK = "<!-- the methods -->"
HEAD = """| solver | order | stages | evaluations a step | steps | states between steps |
| --- | --- | --- | --- | --- | --- |"""
BDF = "| `BDF` | 1 to 5 | implicit | varies | adaptive | TFP's |"


def on_page_markdown(markdown, **_):
    """Replace the mark on a page by the table."""
    return markdown.replace(MARK, table()) if MARK in markdown else markdown


def table():
    """Return the table of `tfnode.solvers`, the methods of lower order first."""
    from tfnode import solvers

    rows = [
        row(solvers.get(name), adaptive)
        for adaptive, names in ((False, solvers.FIXED_STEP), (True, solvers.ADAPTIVE))
        for name in sorted(names, key=lambda name: solvers.get(name).tableau.order)
    ]
    return "\n".join([HEAD, *rows, BDF])


def row(solver, adaptive):
    """Return the row of a method; an adaptive one has an error estimate of the order below."""
    tableau = solver.tableau
    order = f"{tableau.order}({tableau.order - 1})" if adaptive else tableau.order
    evaluations = tableau.stages - tableau.first_same_as_last
    steps = "adaptive or fixed" if adaptive else "fixed"
    between = "lands on the times"
    if solver.dense is not None:
        between = f"a polynomial of degree {len(solver.dense[0])}"
    name = type(solver).__name__
    return f"| `{name}` | {order} | {tableau.stages} | {evaluations} | {steps} | {between} |"
