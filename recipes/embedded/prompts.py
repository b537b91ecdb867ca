"""Recorded prompts from packages of Debian: real voices, short texts.

    python -m recipes.embedded.prompts --work WORK [--asterisk FOLDER] [--text FILE] [--stamps FOLDER]

FOLDERs and FILE from the unpacked packages: `sounds/en_US_f_Allison` of `asterisk-core-sounds-en-g722`,
`core-sounds-en.txt` of `asterisk-core-sounds-en`, `stamps` of `tuxpaint-stamps-default` (`x_desc.ogg`
says the first line of `x.txt`). Makes the shard `real-prompts`, which training hears as real speech.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from recipes.embedded.corpus import write_shard
from recipes.embedded.phrases import number
from recipes.embedded.prepare import Item, decode, plain

SOUNDS = ("silence/", "beep", "ascending", "descending", "confbridge-join:", "confbridge-leave:")
"""Names of prompts that are not speech."""
UNKNOWN = re.compile(r"\d{3}|\d\.\d|\d[A-Z]|[#*]")
"""Numbers and signs that could be read in several ways."""


def said(text: str) -> str:
    """Write a prompt as it is spoken; empty where that is not sure."""
    if UNKNOWN.search(text):
        return ""
    bare = re.sub(r"\[.*?\]", " ", text)
    return plain(re.sub(r"\d+", lambda match: f" {number(int(match.group()))} ", bare))


def asterisk(folder: Path, texts: Path) -> Iterator[Item]:
    """Yield the prompts of a telephone exchange, read by Allison Smith."""
    for line in texts.read_text(encoding="utf-8").splitlines():
        name, _, text = line.partition(": ")
        path = folder / f"{name}.g722"
        if path.exists() and said(text) and not f"{name}:".startswith(SOUNDS):
            yield decode(path), said(text), "allison", "asterisk"


def stamps(folder: Path) -> Iterator[Item]:
    """Yield names of animals from a paint program for children."""
    for path in sorted(folder.rglob("*_desc.ogg")):
        text = path.with_name(path.name.replace("_desc.ogg", ".txt"))
        if text.exists():
            yield decode(path), said(text.read_text(encoding="utf-8").split("\n")[0]), "tuxpaint", "tuxpaint"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--asterisk", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--stamps", type=Path)
    options = parser.parse_args()
    items = [*asterisk(options.asterisk, options.text)] if options.asterisk else []
    items += [*stamps(options.stamps)] if options.stamps else []
    print(write_shard(options.work, "real-prompts", items), sum(len(item[0]) for item in items) / 16_000 / 3600, "h")


if __name__ == "__main__":
    main()
