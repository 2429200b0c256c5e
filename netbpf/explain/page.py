"""The page "Why does my program not load?", made of the catalogue.

``python -m netbpf.explain.page > docs/why-not-load.md``
"""

import re
import sys

from netbpf.explain.catalogue import CHAPTERS, Entry

_HEAD = """# Why does my program not load?

The kernel's verifier follows every path through a program before it runs once, and refuses what it cannot prove safe.
When that happens `netbpf attach` shows the line of C, where the values on it came from, the reason in one sentence, and
what to write instead:

```text
{example}
```

`-v` shows the whole verifier log above that, `--log FILE` writes it to a file, `--json` has the same as the key
`explanation` (see [json.md](json.md#netbpferror1)). Programs compiled without `-g` get the number of the instruction
instead of the line. A log that netbpf has no explanation for is shown as it ends.

This page has all {count} explanations. Look for the verifier's words, or for what your program does.
"""

_EXAMPLE = """  prog.bpf.c:15, in prog()
     12      if ((void *)(eth + 1) > data_end)
     13          return XDP_PASS;
     14      bpf_xdp_adjust_head(ctx, -14);
>    15      if (eth->h_proto == 8)
     16          return XDP_DROP;
     17      return XDP_PASS;

       r7    a pointer into the packet
               9: struct ethhdr *eth = data;
       then  bpf_xdp_adjust_head() invalidates it
               14: bpf_xdp_adjust_head(ctx, -14);

  write  data = (void *)(long)ctx->data;
         data_end = (void *)(long)ctx->data_end;
         eth = data;
         if ((void *)(eth + 1) > data_end)
             return XDP_PASS;

  verifier  R7 invalid mem access 'scalar'

netbpf: error: the verifier rejects program prog of prog.bpf.o: the pointer into the packet was taken before
bpf_xdp_adjust_head() and is not valid any more (prog.bpf.c:15); after the call read ctx->data and ctx->data_end
again, and compare again"""
_WIDTH = 125
# What stands in an advice where no case is at hand.
_GENERAL = {
    "end": "all bytes that are used",
    "back": "the function meant for it",
    "unlock": "the function that ends it, such as bpf_spin_unlock",
    "thing": "bpf_timer",
}


def page() -> str:
    """The whole page in Markdown."""
    parts = [_HEAD.format(example=_EXAMPLE, count=sum(len(entries) for _, entries in CHAPTERS))]
    parts.append("\n".join(f"- [{title}](#{_anchor(title)})" for title, _ in CHAPTERS) + "\n")
    for title, entries in CHAPTERS:
        parts.append(f"## {title}\n")
        parts.extend(_section(entry) for entry in entries)
    return "\n".join(parts)


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _section(entry: Entry) -> str:
    advice = entry.advice.format_map(_GENERAL)
    code = entry.code.replace("\t", "    ")
    return "\n\n".join(
        (
            f"### {entry.title}",
            f"`{entry.id}`: the verifier says",
            f"```text\n{entry.words}\n```",
            _fill(_markdown(entry.why)),
            _fill(f"**Instead**: {_markdown(advice)}."),
            f"```{_language(code)}\n{code}\n```\n",
        )
    )


def _language(code: str) -> str:
    return "sh" if code.startswith("clang ") else "c"


def _markdown(text: str) -> str:
    """Plain text with what Markdown would take for its own escaped, except in code between backquotes."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*<\[])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def _fill(text: str) -> str:
    """Text in lines of the width that all pages have."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page())
