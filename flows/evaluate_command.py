"""The command `stemwright evaluate`: generated stems of any origin, judged without training anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import WHOLE, Options, asking

if TYPE_CHECKING:
    from flows.request import StudyRequest

Judge = Annotated[
    str,
    typer.Option(help="Who judges: shipped, laion or laion-int16; auto: LAION's if given, else shipped."),
]
SHARED = ("laion_checkpoint", "laion_tokenizer", "workspace", "device", "workers", "dask_scheduler")
JUDGED: Options = {"clap": (Judge, "auto")} | {name: WHOLE[name] for name in SHARED}


@asking(JUDGED)
def evaluate(
    request: StudyRequest,
    candidates: Annotated[
        list[str],
        typer.Option(help="A folder of generated stems, or a .npy or .parquet file of embeddings; repeat to compare."),
    ],
    references: Annotated[str, typer.Option(help="A folder of real stems of other songs, or a file of embeddings.")],
    contexts: Annotated[
        str | None, typer.Option(help="What each candidate accompanies, under the same file names. For APA.")
    ] = None,
    reference_contexts: Annotated[
        str | None, typer.Option(help="What each reference accompanies, under the same file names. For APA.")
    ] = None,
    targets: Annotated[
        str | None, typer.Option(help="What each candidate was to resemble, under the same file names. For CS_AA.")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="A .csv or .jsonl file with the columns name and text. For CS_TA.")
    ] = None,
    space: Annotated[str | None, typer.Option(help="The model that made given embeddings, in words.")] = None,
    profile: Annotated[str, typer.Option(help="The rules: paper or audio-metrics-1.0.")] = "paper",
    batches: Annotated[
        int | None,
        typer.Option(min=1, help="Batches, for a spread. Default: as many of the profile's size as can be filled."),
    ] = None,
    clips_per_file: Annotated[
        int, typer.Option(min=1, help="Clips that are judged of a long file, one after the other from its start.")
    ] = 1,
    secondary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER",
            help="One more FAD, in the space of vggish, pann or encodec, whose checkpoint lies in FOLDER; repeatable.",
        ),
    ] = None,
    out: Annotated[str, typer.Option(help="Folder for the tables and the protocol.")] = "evaluation",
    seed: Annotated[
        int, typer.Option(min=0, help="Draws candidates into batches, and references where there are too many.")
    ] = 0,
) -> int:
    """Judge generated stems against real ones: KD, FAD, coverage, density, and APA and CLAP scores where they can be.

    Files belong together by their path below their folder without the extension; files of one subfolder are of one
    song. Any format, rate and length: the first 10 s of a file are judged, and silence follows a shorter one.
    """

    from flows.evaluate_work import evaluation_lines
    from tasks.evaluate_material import Material
    from tasks.evaluate_scores import Rules

    material = Material(
        candidates=tuple(map(Path, candidates)),
        references=Path(references),
        contexts=_path(contexts),
        reference_contexts=_path(reference_contexts),
        targets=_path(targets),
        prompts=_path(prompts),
        space=space,
    )
    rules = Rules(
        profile=profile,
        batches=batches,
        clips_per_file=clips_per_file,
        seed=seed,
        secondary=_checkpoints(secondary or []),
    )
    for line in evaluation_lines(request, material, rules, Path(out)):
        print(line)
    return 0


def _path(given: str | None) -> Path | None:
    return Path(given) if given else None


def _checkpoints(given: list[str]) -> dict[str, Path]:
    """The folders of `NAME=FOLDER`, by name."""
    folders: dict[str, Path] = {}
    for text in given:
        name, _, folder = text.partition("=")
        if not name or not folder or name in folders:
            raise ValueError(f"--secondary {text}; give NAME=FOLDER, such as vggish=checkpoints, and each name once")
        folders[name] = Path(folder)
    return folders
