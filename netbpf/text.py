"""Words for people: escaping what came from outside, and near names."""

from collections.abc import Iterable


def escape(text: str) -> str:
    """Text from outside made fit for one line on a terminal: control characters as \\xNN, surrogates as \\udcNN."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def near(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that look like ``name``, best first."""
    import difflib  # 5 ms that only an error needs to pay

    return difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)


def did_you_mean(name: str, known: Iterable[str], what: str) -> str | None:
    """A hint for an unknown name: the near names, or all of them where they are few, or None."""
    names = sorted(set(known))
    close = near(name, names)
    if close:
        return "did you mean " + " or ".join(escape(one) for one in close) + "?"
    if names:
        shown = ", ".join(escape(one) for one in names[:12]) + (", ..." if len(names) > 12 else "")
        return f"{what}: {shown}"
    return None


def ago(seconds: float) -> str:
    """An age in its two largest units: ``5s``, ``3m 20s``, ``2h 10m``, ``12d 3h``."""
    whole = int(seconds)
    for size, unit, smaller, name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size}{unit}" + (f" {rest}{name}" if rest else "")
    return f"{whole}s"


def word(text: str) -> str:
    """A name as one word of a command line: an interface may be called ``a;b``."""
    from shlex import quote

    return quote(escape(text))
