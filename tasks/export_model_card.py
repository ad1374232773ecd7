"""The card of an exported model: what a person must know before playing with it, in the form of model hubs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metrics.table import ScoreTable
from models.arms import Arm
from models.codecs import is_mono
from models.exported import BRIDGE, CLAP, CODEC
from models.sampling import ConsistencySampler
from tasks.columns import columns
from tasks.exports import read_scores_parquet
from tasks.fit_codec import codec_name
from tasks.provenance import embedder_name, sizes

NO_SCORES = "No report of this study was found beside the weights: the row is blank until `stemwright reproduce` ran."


def card_text(config: Mapping[str, Any], arm: Arm, *, scores: Path | None) -> str:
    """The whole README.md. `config` is `config.json` but for the card's own digest."""
    return "\n".join([*_front_matter(config), *_use(arm), *_origin(config, arm), *_row(arm, scores), *_limits(arm), ""])


def _front_matter(config: Mapping[str, Any]) -> Iterator[str]:
    noncommercial = CODEC in config["elsewhere"]
    yield "---"
    yield "library_name: stemwright"
    yield "pipeline_tag: audio-to-audio"
    yield f"license: {'cc-by-nc-4.0' if noncommercial else config['about']['licence']}"
    yield "tags: [music, accompaniment, latent-diffusion]"
    yield "---"


def _use(arm: Arm) -> Iterator[str]:
    yield f"# {arm.name}: {arm.differs_by}\n"
    yield "Plays a stem that fits the music it hears, in the style of a prompt or of a reference.\n"
    yield "```"
    yield 'stemwright play SONG.wav --model DIR --prompt "warm fretless bass, slow" --variations 4 --out parts'
    yield "```\n"
    yield "Or in Python, with torch, numpy and safetensors alone: `from models.accompanist import Accompanist`."


def _origin(config: Mapping[str, Any], arm: Arm) -> Iterator[str]:
    about = config["about"]
    yield "\n## Data and recipe\n"
    yield f"- **Data**: {about['corpus']}, digest `{about['corpus_digest']}`,"
    yield f"  {about['train_windows']:,} windows of {config['window_samples'] / 48_000:.2f} s; seed {about['seed']}."
    training = arm.denoiser.training
    yield f"- **Scale**: `{about['scale']}`, {training.steps:,} steps of {training.batch_size} windows;"
    yield "  the whole recipe is in `config.json`. The weights are the averaged ones (EMA)."
    yield f"- **Codec**: {codec_name(arm.denoiser.codec)}."
    yield f"- **CLAP**: {config['clap']['name']}, {config['clap']['width']}-d,"
    yield f"  weights `{config['clap']['weights_sha256'][:12]}`."
    yield f"- **Code**: Stemwright {about['version']}, commit {about['commit']}."
    yield "\n## Files\n"
    yield "| file | bytes | sha256 |\n|---|---:|---|"
    yield from (f"| `{name}` | {file['bytes']:,} | `{file['sha256']}` |" for name, file in config["files"].items())
    for name, absent in config["elsewhere"].items():
        yield f"\n`{name}` is not in this folder. Bring {absent['where']}; this model needs the file with sha256 "
        yield f"`{absent['source_sha256']}`."
    yield "\n## Licences\n"
    yield f"- Code: Apache-2.0. Denoiser{' and bridge' if BRIDGE in config['files'] else ''}: {about['licence']},"
    yield "  as far as the recordings of its training allow it."
    yield f"- Codec: {'CC BY-NC 4.0, its owners’' if CODEC in config['elsewhere'] else 'trained by us, Apache-2.0'}."
    yield f"- CLAP: {'CC0-1.0, its owners’' if CLAP in config['elsewhere'] else 'the small one, Apache-2.0'}."


def _row(arm: Arm, scores: Path | None) -> Iterator[str]:
    yield "\n## Row of the table\n"
    table = read_scores_parquet(scores) if scores else None
    rows = [row for row in table.rows() if row[0] == arm.name] if table else []
    if table is None or not rows:
        yield NO_SCORES
        return
    yield f"Embedder: {embedder_name(table.protocol)}; {sizes(table.protocol)}.\n"
    yield from _cells(table, rows)


def _cells(table: ScoreTable, rows: list[tuple[str, str]]) -> Iterator[str]:
    shown = [
        column for column in columns(table.protocol.neighbours) if any(table.cell(*row, column.metric) for row in rows)
    ]
    yield f"| inputs | {' | '.join(column.title for column in shown)} |"
    yield "|---|" + "---:|" * len(shown)
    for row in rows:
        cells = [column.cell_text(table.cell(*row, column.metric), spread=True) for column in shown]
        yield f"| {row[1]} | {' | '.join(cells)} |"


def _limits(arm: Arm) -> Iterator[str]:
    yield "\n## Known limits\n"
    yield "- It never makes a singing voice: vocals are heard as context, and were no targets."
    yield "- It knows the instruments and the words of its data; a word that it never saw is guessed by its letters."
    if is_mono(arm.denoiser.codec):
        yield "- The codec is mono: stereo is two slightly different takes, as wide as `--stereo-width` says."
    if isinstance(arm.sampler, ConsistencySampler):
        yield "- A consistency model: few steps, and guidance helps it less."
    yield "- No score of one part says that it fits its context: adherence (APA) compares sets of parts."
