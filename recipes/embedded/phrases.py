"""What people say first to a speech server: each call draws one phrase from the templates of `phrases.txt`."""

from functools import cache
from pathlib import Path

import numpy as np

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@cache
def lists() -> dict[str, list[str]]:
    """Read `phrases.txt`: sections that begin with `# name`, entries with `|` between them."""
    sections = Path(__file__).with_name("phrases.txt").read_text(encoding="utf-8").split("# ")[1:]
    split = (section.split("\n", 1) for section in sections)
    return {name: [entry.strip() for entry in body.split("|") if entry.strip()] for name, body in split}


def number(value: int) -> str:
    """Write a whole number below a million in words."""
    if value < 20:
        return lists()["unit"][value]
    if value < 100:
        return lists()["ten"][value // 10 - 2] + (f" {lists()['unit'][value % 10]}" if value % 10 else "")
    if value < 1000:
        return f"{lists()['unit'][value // 100]} hundred" + (f" {number(value % 100)}" if value % 100 else "")
    return f"{number(value // 1000)} thousand" + (f" {number(value % 1000)}" if value % 1000 else "")


def year(value: int) -> str:
    """Write a year from 1100 to 2099 the way it is said."""
    high, low = divmod(value, 100)
    if high == 20 and low < 10:
        return number(value)
    return f"{number(high)} " + ("hundred" if low == 0 else f"oh {lists()['unit'][low]}" if low < 10 else number(low))


def ordinal(day: int) -> str:
    """First to thirty first."""
    if day <= 20:
        return lists()["ordinal"][day - 1]
    return "thirtieth" if day == 30 else f"{lists()['ten'][day // 10 - 2]} {lists()['ordinal'][day % 10 - 1]}"


def clock(rng: np.random.Generator) -> str:
    """Draw a time of day."""
    hour, minute = number(int(rng.integers(1, 13))), int(rng.integers(0, 12)) * 5
    plain = f"{hour} o'clock" if minute == 0 else f"{hour} oh five" if minute == 5 else f"{hour} {number(minute)}"
    return [plain, f"half past {hour}", f"quarter to {hour}", f"{hour} in the morning", f"{hour} p m"][rng.integers(5)]


def amount(rng: np.random.Generator) -> str:
    """Draw a sum of money."""
    whole, currency = number(int(rng.integers(2, 600))), ["dollars", "euros", "pounds"][rng.integers(3)]
    cents = number(int(rng.integers(1, 100)))
    return f"{whole} {currency}" + (f" and {cents} cents" if rng.random() < 0.4 else "")


def date(rng: np.random.Generator) -> str:
    """Draw a date, sometimes with its year."""
    day = f"{pick('month', rng)} {ordinal(int(rng.integers(1, 32)))}"
    return day + (f" {year(int(rng.integers(1950, 2030)))}" if rng.random() < 0.4 else "")


def letters(rng: np.random.Generator) -> str:
    """Spell a name, or letters at random."""
    if rng.random() < 0.6:
        return " ".join(pick(str(rng.choice(["first", "last", "place"])), rng).replace(" ", ""))
    return " ".join(LETTERS[i] for i in rng.integers(0, 26, rng.integers(2, 7)))


def pick(section: str, rng: np.random.Generator) -> str:
    """Draw an entry of a section."""
    entries = lists()[section]
    return entries[rng.integers(len(entries))]


def fill(name: str, rng: np.random.Generator) -> str:
    """Draw what stands for `{name}` in a template."""
    drawn = {"time": clock, "amount": amount, "date": date, "letters": letters}
    if name in drawn:
        return drawn[name](rng)
    if name == "digits":
        return " ".join(lists()["unit"][i] for i in rng.integers(0, 10, rng.integers(2, 8)))
    numbers = {"small": rng.uniform(2, 21), "number": 10 ** rng.uniform(0, 5), "year": rng.uniform(1800, 2030)}
    if name in numbers:
        return (year if name == "year" else number)(int(numbers[name]))
    return pick(name, rng)


def phrase(rng: np.random.Generator) -> str:
    """Draw one phrase, lower case a-z, apostrophe and space."""
    form = pick(str(rng.choice(["talk", "request", "short"], p=[0.1, 0.55, 0.35])), rng)
    while "{" in form:
        name = form[form.index("{") + 1 : form.index("}")]
        form = form.replace(f"{{{name}}}", fill(name, rng), 1)
    return form
